"""One operation at one shape in one precision: checked, then timed in turns with torch's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.device import Cpu, set_torch
from benchmarks.gpu.ops import load_all
from benchmarks.gpu.ops.op import TOLERANCE, Call, Op, drawn, error, from_torch, tensors
from benchmarks.gpu.variants import HAVE_TORCH
from tinynet.engine.precision import use_precision

OURS, TORCH = "ours", "torch"
TURN = 10.0  # milliseconds, or one call
MOST_CALLS = 50
Results = list[Any]


def measure(
    device: Cpu, op: str, shape: str, precision: str, rounds: int, small: bool = False
) -> dict[str, Any]:
    """A row: what was measured, the floor's terms, errors, and milliseconds of each round.

    rounds   0: ours is run once, which compiles its kernels, and that is all
    small    a shape of the same kind that takes no time
    "failed" names who failed and why; the other is timed all the same.
    """
    found = load_all()[op]
    s = found.shapes[shape]
    s = found.small(s) if small else s
    cost = found.cost(s, 2 if precision == "bf16" else 4)
    row: dict[str, Any] = {
        **{"op": op, "shape": shape, "precision": precision},
        **{"multiply_adds": cost.multiply_adds, "bytes": cost.bytes},
        **{"errors": {}, "ms": {}, "host_ms": {}, "failed": {}},
    }
    with use_precision(precision):
        if rounds:
            take_turns(checked(found, s, device, precision, row), device, rounds, row)
        else:
            found.ours(s, drawn(found.inputs(s), device, precision))()
            device.wait()
    return row


def checked(
    op: Op[Any], s: Any, device: Cpu, precision: str, row: dict[str, Any]
) -> dict[str, Call]:
    """Those that ran and computed what torch computes in float32, or all that ran without torch."""
    inputs = op.inputs(s)
    arrays = drawn(inputs, device, precision)
    calls: dict[str, Call] = {}

    def named(results: tuple[Any, ...]) -> Results:
        return [from_torch(kind, x) for kind, x in zip(op.results, results, strict=True)]

    def attempt(
        name: str, make: Callable[[], Call], read: Callable[[tuple[Any, ...]], Results] | None
    ) -> None:
        try:
            call = make()
            results = call()
            device.wait()
            if read is not None:
                row["errors"][name] = apart = error(read(results), want)
                if not apart <= TOLERANCE[precision]:
                    raise ValueError(f"off by {apart:.1e}, want at most {TOLERANCE[precision]:.0e}")
            calls[name] = call
        except Exception as problem:
            first = (str(problem).strip() or "no message").splitlines()[0]
            row["failed"][name] = f"{type(problem).__name__}: {first[:200]}"

    if not HAVE_TORCH:
        attempt(OURS, lambda: op.ours(s, arrays), None)
        return calls
    # both of torch's are made before ours runs: an update changes its arrays
    set_torch("fp32", search=False)
    want = named(op.theirs(s, tensors(inputs, arrays, device, "fp32"))())
    set_torch(precision)
    theirs = op.theirs(s, tensors(inputs, arrays, device, precision))
    attempt(OURS, lambda: op.ours(s, arrays), lambda r: [device.tensor(x).float() for x in r])
    attempt(TORCH, lambda: theirs, named)
    want.clear()
    return calls


def take_turns(calls: dict[str, Call], device: Cpu, rounds: int, row: dict[str, Any]) -> None:
    """Milliseconds of each, once a round; every second round goes backwards."""
    plans = {}
    for name, call in calls.items():
        for _ in range(2):  # torch's search for the fastest algorithm is over after the first
            call()
        device.wait()
        began = time.perf_counter()
        call()
        host = time.perf_counter() - began
        device.wait()
        whole = 1e3 * (time.perf_counter() - began)
        count = max(1, min(MOST_CALLS, int(TURN / max(whole, 1e-3))))
        plans[name] = count, host * count
        row["host_ms"][name], row["ms"][name] = 1e3 * host, []
    for number in range(rounds):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            count, ahead = plans[name]
            row["ms"][name].append(device.time(calls[name], count, ahead))
