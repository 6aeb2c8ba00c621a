"""Exported settings of OpenBLAS: what they cost, and a start without them.

OPENBLAS_CORETYPE names the processor whose kernels OpenBLAS uses, OPENBLAS_L2_SIZE the cache it
cuts its blocks for. Such a value, exported once for an older OpenBLAS or another processor, goes
on to hold a current NumPy to kernels that are too narrow. It may also be there for a reason: the
kernels that OpenBLAS would pick by itself crash or miscompute. So nothing is removed before a
child process has tried the products without it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
KEEP = "TINYNET_KEEP_BLAS"
RESTARTED = "TINYNET_RESTARTED"  # set in the restarted process, which must not start another
TRIAL = Path(__file__).with_name("trial.py")
PATIENCE = 60  # seconds; a trial takes about one

Environment = Mapping[str, str]
Runner = Callable[[list[str], Environment], tuple[int, str]]


@dataclass(frozen=True)
class Trial:
    """Outcome of a child's products.

    problem    None, or what went wrong
    libraries  what threadpoolctl says of the BLAS libraries in the child
    rate       GFLOP/s of a float32 product on one thread; None if it was not measured
    """

    problem: str | None
    libraries: tuple[dict[str, Any], ...] = ()
    rate: float | None = None

    @property
    def kernels(self) -> str:
        """The processors whose kernels run, "Haswell" or "Haswell and Zen"; "" if unknown."""
        names = [str(library.get("architecture") or "") for library in self.libraries]
        return " and ".join(sorted({name for name in names if name}))


def exported(environ: Environment) -> dict[str, str]:
    """Those of SETTINGS that ``environ`` has; OpenBLAS passes over an empty value, and so do we."""
    return {name: environ[name] for name in SETTINGS if environ.get(name)}


def without_settings(environ: Environment) -> dict[str, str]:
    """``environ`` less SETTINGS."""
    return {name: value for name, value in environ.items() if name not in SETTINGS}


def in_words(settings: Mapping[str, str]) -> str:
    """Such as "OPENBLAS_CORETYPE=Haswell, OPENBLAS_L2_SIZE=512"."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def run_child(command: list[str], environ: Environment) -> tuple[int, str]:
    """(exit status, standard output) of ``command`` run in ``environ``."""
    done = subprocess.run(
        command,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout


def try_products(environ: Environment, seconds: float = 0.0, run: Runner = run_child) -> Trial:
    """Products in a child process with ``environ``; with ``seconds``, their rate as well."""
    try:
        # -P: the file's own folder stays off the path, where its names might shadow others
        status, out = run([sys.executable, "-P", str(TRIAL), str(seconds)], environ)
    except subprocess.TimeoutExpired:
        return Trial(f"its products do not end within {PATIENCE} s")
    except OSError as error:
        return Trial(f"it does not start: {error.strerror or error}")
    if status:
        return Trial(f"it ends with {ending(status)}")
    try:
        said = json.loads(out.splitlines()[-1])
        return Trial(said["problem"], tuple(said["libraries"]), said["rate"])
    except (ValueError, LookupError, TypeError):
        return Trial("it gives no result")


def ending(status: int) -> str:
    """A nonzero exit status in words: "SIGILL", or "exit status 1"."""
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"exit status {status}"


def start_again(command: list[str], environ: Environment) -> None:
    """Become ``command`` in ``environ``; never returns.

    Windows has no exec that keeps its caller waiting, so there a child does the work.
    """
    if os.name != "nt":
        os.execve(command[0], command, dict(environ))
    child = subprocess.Popen(command, env=dict(environ))
    while True:
        try:
            sys.exit(child.wait())
        except KeyboardInterrupt:
            continue  # the child got it too, and decides


def restart_without_settings(
    module: str,
    environ: Environment | None = None,
    arguments: list[str] | None = None,
    run: Runner = run_child,
    replace: Callable[[list[str], Environment], None] = start_again,
) -> None:
    """Start ``python -m module ...`` again without SETTINGS, if any is exported; says so.

    Returns, and the program goes on as it is, where none is exported, where TINYNET_KEEP_BLAS is
    set, where the process is not ``python -m module``, and where products without them fail.

    environ    os.environ
    arguments  sys.orig_argv, the whole command as it was typed
    """
    environ = os.environ if environ is None else environ
    arguments = sys.orig_argv if arguments is None else arguments
    settings = exported(environ)
    kept = environ.get(KEEP, "") not in ("", "0")
    if not settings or kept or RESTARTED in environ or module not in arguments:
        return
    rest = without_settings(environ)
    trial = try_products(rest, run=run)
    words = in_words(settings)
    if trial.problem:
        tell(f"{words} stays set: a trial without it failed ({trial.problem})")
        return
    kernels = f" (now {trial.kernels})" if trial.kernels else ""
    tell(
        f"restarted without {words}, so that OpenBLAS picks its kernels for this processor"
        f"{kernels}; {KEEP}=1 keeps it"
    )
    try:
        replace([sys.executable, *arguments[1:]], {**rest, RESTARTED: "1"})
    except OSError as error:
        tell(f"the restart failed ({error.strerror or error}): going on with {words}")


def tell(line: str) -> None:
    """One line on standard error, written out before another program takes this one's place."""
    print(f"tinynet: {line}", file=sys.stderr, flush=True)
