"""A process of its own on the device: it does what it is told in JSON lines, and answers in them.

python -m benchmarks.gpu.worker '{"name": "tinynet", "library": "tinynet", …}' gpu

    {"facts": true}                                      versions and the device
    {"ceilings": {"side": N, "bytes": N}}                see ``benchmarks.gpu.ceilings``
    {"op": NAME, "shape": NAME, "precision": P, …}       check and time one, ``benchmarks.gpu.ops``
    {"make": {network}, "precision": P}                  a step, see ``benchmarks.gpu.training``
    {"losses": N}                                        of so many steps
    {"settle": N}                                        so many steps; memory counts from here
    {"time": NAME, "seconds": S}                         milliseconds of a step
    {"memory": true}                                     bytes since "settle"
    {"forget": true}                                     the step goes, and its memory
    {"same_bits": {network}, "precision": P}             whether steps give the same bits twice
    {"kernels": {network}, "precision": P}               where a step's time goes

"error" in an answer says what went wrong.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import Any

from benchmarks.gpu.device import Cpu, open_device
from benchmarks.gpu.networks import Network
from benchmarks.gpu.training import Step, make, same_bits
from benchmarks.gpu.variants import Variant


class Server:
    """What a process keeps between two requests."""

    def __init__(self, variant: Variant, device: Cpu) -> None:
        self.variant, self.device = variant, device
        self.step: Step | None = None

    def obey(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one line asks."""
        for name in ("facts", "ceilings", "op", "make", "same_bits", "kernels"):
            if name in request:
                return getattr(self, f"do_{name}")(request)
        if "forget" in request:
            self.step = None
            self.free()
            return {}
        step = self.step
        if step is None:
            raise ValueError('there is no step: ask for "make" first')
        if "losses" in request:
            return {"losses": [float(step.call()) for _ in range(request["losses"])]}
        if "settle" in request:
            step.restart()
            for _ in range(request["settle"]):
                step.call()
            self.device.wait()
            self.wait_for_torch()
            return {}
        if "time" in request:
            return {"ms": self.milliseconds(step, request["seconds"])}
        return step.memory()

    def do_facts(self, _: dict[str, Any]) -> dict[str, Any]:
        from benchmarks.gpu.machine import facts

        return facts(self.device)

    def do_ceilings(self, request: dict[str, Any]) -> dict[str, Any]:
        from benchmarks.gpu.ceilings import measure

        return measure(self.device, **request["ceilings"])

    def do_op(self, request: dict[str, Any]) -> dict[str, Any]:
        from benchmarks.gpu.ops.measure import measure

        row = measure(self.device, **request)
        self.free()
        return row

    def do_make(self, request: dict[str, Any]) -> dict[str, Any]:
        self.step = None
        self.free()
        network = Network(**request["make"])
        self.step = make(network, request["precision"], self.variant, self.device)
        return self.step.facts

    def do_same_bits(self, request: dict[str, Any]) -> dict[str, Any]:
        network = Network(**request["same_bits"])
        return {"same": same_bits(network, request["precision"], self.device)}

    def do_kernels(self, request: dict[str, Any]) -> dict[str, Any]:
        from benchmarks.gpu.kernels import rows_of

        network = Network(**request["kernels"])
        found = rows_of(self.device, network, request["precision"])
        self.free()
        return found

    def milliseconds(self, step: Step, seconds: float) -> float:
        """Mean time of a step, over as many as fit into so many seconds; at least two."""
        self.wait_for_torch()
        self.device.wait()
        began = time.perf_counter()
        step.call()
        self.wait_for_torch()
        self.device.wait()
        calls = max(2, int(seconds / max(time.perf_counter() - began, 1e-6)))
        began = time.perf_counter()
        for _ in range(calls):
            step.call()
        self.wait_for_torch()
        self.device.wait()
        return 1e3 * (time.perf_counter() - began) / calls

    def wait_for_torch(self) -> None:
        """Until torch's streams are idle."""
        torch = sys.modules.get("torch")
        if torch is not None and self.device.torch_device == "cuda":
            torch.cuda.synchronize()

    def free(self) -> None:
        """Memory that nobody uses goes back to the device."""
        gc.collect()
        self.device.free()
        torch = sys.modules.get("torch")
        if torch is not None and self.device.torch_device == "cuda":
            torch.cuda.empty_cache()
        if torch is not None and self.variant.compiled:
            torch.compiler.reset()


def first_line(error: BaseException) -> str:
    """What went wrong, in one line."""
    lines = [line.strip(" =") for line in str(error).splitlines()]
    return f"{type(error).__name__}: {next((line for line in lines if line), 'no message')[:300]}"


def main(variant: Variant, device_name: str) -> None:
    """Answer every line."""
    # libraries print to standard output too: answers go out by another door
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server: Server | None = None
    for line in sys.stdin:
        try:
            if server is None:
                server = Server(variant, open_device(device_name))
            answer = server.obey(json.loads(line))
        except Exception as error:
            answer = {"error": first_line(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(Variant(**json.loads(sys.argv[1])), sys.argv[2])
