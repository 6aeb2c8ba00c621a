"""All that doctor finds out about a machine, before it judges."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tinynet.doctor.blas import Blas, processor_bits, read_blas
from tinynet.doctor.gpu import Gpu, read_gpu
from tinynet.doctor.machine import Machine, read_machine
from tinynet.doctor.openblas import Trial, exported, try_products, without_settings
from tinynet.doctor.packages import (
    Package,
    compiled_kernels,
    debug_build,
    read_packages,
    versions,
)
from tinynet.doctor.rates import Rates, measure
from tinynet.engine.threads import thread_count

TRIAL_SECONDS = 0.4

# What else in the environment bears on speed.
VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    *("BLIS_NUM_THREADS", "TINYNET_KERNELS", "TINYNET_KEEP_BLAS", "NUMBA_DISABLE_JIT"),
    *("NUMBA_NUM_THREADS", "NUMPY_MADVISE_HUGEPAGE"),
)


@dataclass(frozen=True)
class Findings:
    """settings  exported settings of OpenBLAS
    variables    the rest of the environment that bears on speed
    threads      that tinynet uses
    as_is, bare  trials in child processes with the settings and without; None without settings
    rates        None if products crash as things are
    """

    versions: dict[str, str]
    machine: Machine
    blas: list[Blas]
    processor_bits: int | None = None
    threads: int = 1
    settings: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    as_is: Trial | None = None
    bare: Trial | None = None
    packages: list[Package] = field(default_factory=list)
    compiled_kernels: str | None = None
    debug_build: bool = False
    gpu: Gpu = field(default_factory=Gpu)
    rates: Rates | None = None


def examine(
    environ: Mapping[str, str] | None = None,
    measuring: Callable[[Machine], Rates] = measure,
    trial: Callable[[Mapping[str, str], float], Trial] = try_products,
) -> Findings:
    """Read, try and measure, in some 4 seconds; 3 more where OpenBLAS's settings are exported.

    The trials come first: if products crash as things are, none is made in this process.
    """
    environ = os.environ if environ is None else environ
    settings = exported(environ)
    as_is = bare = None
    if settings:
        as_is = trial(environ, TRIAL_SECONDS)
        bare = trial(without_settings(environ), TRIAL_SECONDS)
    machine = read_machine()
    packages = read_packages()
    numba = any(package.name == "numba" and package.version for package in packages)
    return Findings(
        versions=versions(),
        machine=machine,
        blas=read_blas(),
        processor_bits=processor_bits(),
        threads=thread_count(),
        settings=settings,
        variables={name: environ[name] for name in VARIABLES if environ.get(name)},
        as_is=as_is,
        bare=bare,
        packages=packages,
        compiled_kernels=compiled_kernels() if numba else None,
        debug_build=debug_build(),
        gpu=read_gpu(),
        rates=None if as_is and as_is.problem else measuring(machine),
    )
