"""A machine on which nothing is wrong, for tests to spoil in one place."""

from dataclasses import replace

from tinynet.doctor.blas import Blas
from tinynet.doctor.findings import Findings
from tinynet.doctor.gpu import Gpu
from tinynet.doctor.machine import Machine
from tinynet.doctor.packages import Package
from tinynet.doctor.rates import Rates, Steadiness

STEADY = Steadiness(
    repetitions=200, best=0.004, median=0.0042, tenth=0.005, running=0.99, stolen=0.0
)
RATES = Rates(
    side=1024,
    products={1: 80.0, 2: 152.0, 4: 290.0},
    steadiness=STEADY,
    copies={1: 12.0, 2: 19.0, 4: 21.0},
    fresh=4.0,
    reused=7.0,
    megabytes=256.0,
)
MACHINE = Machine(
    system="Linux 6.1, x86_64",
    processor="Example 9000",
    cores=4,
    usable=4,
    physical=4,
    memory=16 * 10**9,
    free=12 * 10**9,
    huge_pages="madvise",
    load=0.1,
)
OPENBLAS = Blas("NumPy and SciPy", "openblas", "0.3.31", "SkylakeX", 4)
HEALTHY = Findings(
    versions={"tinynet": "0.1.0", "Python": "3.13.1", "NumPy": "2.4.6", "SciPy": "1.17.1"},
    machine=MACHINE,
    blas=[OPENBLAS],
    processor_bits=512,
    threads=4,
    packages=[
        Package("numba", "fast", "0.68.1"),
        Package("h5py", "weights", None),
    ],
    compiled_kernels="40 compiled functions kept beside their source",
    gpu=Gpu(note="no CuPy: with an NVIDIA GPU, pip install cupy-cuda13x or cupy-cuda12x"),
    rates=RATES,
)


def on(**changes):
    """HEALTHY on another machine: fields of Machine."""
    return replace(HEALTHY, machine=replace(MACHINE, **changes))


def measuring(**changes):
    """HEALTHY with other rates: fields of Rates or of Steadiness."""
    steady = {k: v for k, v in changes.items() if k in Steadiness.__dataclass_fields__}
    rest = {k: v for k, v in changes.items() if k not in steady}
    return replace(HEALTHY, rates=replace(RATES, steadiness=replace(STEADY, **steady), **rest))
