"""A process that times one library: it does what it is told in JSON lines, and answers in them.

python -m benchmarks.worker '{"name": "tinynet NumPy", "library": "tinynet", "kernels": "numpy"}'

    {"make": NAME, "task": {...}}                    a subject, see ``benchmarks.tasks``
    {"check": NAME, "calls": N, "file": FILE.npz}    call it so often, and save the results
    {"time": NAME, "seconds": S}                     call it for so long, at least once
    {"forget": NAME}                                 let it go
    {"facts": true}                                  the libraries loaded, and how they are set

Every answer has the process's peak memory; one to "time" the median time of a call; "error", if
there is one, says what went wrong.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from statistics import median
from typing import Any

import numpy as np

from benchmarks.allocator import keep_freed_memory
from benchmarks.subject import Subject
from benchmarks.tasks import facts, make, set_threads
from benchmarks.variants import Variant


def main(variant: Variant) -> None:
    """Answer every line."""
    # libraries print to standard output too: answers go out by another door
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if variant.allocator:
        keep_freed_memory()
    set_threads(variant)
    subjects: dict[str, Subject] = {}
    for line in sys.stdin:
        try:
            answer = obey(json.loads(line), variant, subjects)
        except Exception as error:
            text = str(error).strip() or "no message"
            answer = {"error": f"{type(error).__name__}: {text.splitlines()[0]}"}
        print(json.dumps(answer | {"peak_mb": peak_mb()}), file=answers, flush=True)


def obey(request: dict[str, Any], variant: Variant, subjects: dict[str, Subject]) -> dict[str, Any]:
    """Do what one line asks."""
    if "make" in request:
        subjects[request["make"]] = make(request["task"], variant)
    elif "check" in request:
        check(subjects[request["check"]], request["calls"], request["file"])
    elif "time" in request:
        return {"ms": time_calls(subjects[request["time"]], request["seconds"])}
    elif "forget" in request:
        del subjects[request["forget"]]
    elif "facts" in request:
        return facts()
    return {}


def check(subject: Subject, calls: int, file: str) -> None:
    """Save what so many calls give, one after the other."""
    with subject.around():
        arrays = [x for _ in range(calls) for x in subject.results(subject.call())]
    np.savez(file, *arrays)


def time_calls(subject: Subject, seconds: float) -> float:
    """Median time of a call, in milliseconds, of as many as fit; at least one is made."""
    times: list[float] = []
    with subject.around():
        began = time.perf_counter()
        while not times or time.perf_counter() - began < seconds:
            start = time.perf_counter()
            subject.call()
            times.append(1e3 * (time.perf_counter() - start))
    return median(times)


def peak_mb() -> float:
    """The largest memory that this process ever had, in MB of 2²⁰ bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    main(Variant(**json.loads(sys.argv[1])))
