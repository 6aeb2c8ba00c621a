"""A process that times one library: it makes steps when told to, and answers in JSON lines.

python -m benchmarks.worker "tinynet" W48
"""

from __future__ import annotations

import json
import resource
import sys
import time

from benchmarks.peers import PEERS
from benchmarks.workloads import WORKLOADS


def main(peer: str, workload: str) -> None:
    """Answer each line, a number of steps, with their losses, milliseconds and the peak memory."""
    step = PEERS[peer](WORKLOADS[workload])
    for line in sys.stdin:
        losses, times = [], []
        for _ in range(int(line)):
            start = time.perf_counter()
            losses.append(step())
            times.append(1e3 * (time.perf_counter() - start))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"losses": losses, "ms": times, "peak_mb": peak}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
