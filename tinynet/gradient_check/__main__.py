"""The checker's command line: what to check, or ``--tour``."""

from __future__ import annotations

import argparse
import sys
import traceback
from ast import literal_eval
from collections.abc import Sequence
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tinynet.gradient_check.choice import check_any, whole_number
from tinynet.gradient_check.report import GradientError

USAGE = """\
python -m tinynet.gradient_check MODULE:FORWARD MODULE:BACKWARD --args ARG...
       python -m tinynet.gradient_check MODULE:NAME --args ARG...
       python -m tinynet.gradient_check --tour"""
EPILOG = """\
forward takes the --args, in order, each one of
  4,3           an array of that shape, drawn from the standard normal distribution
  int:2         the number 2
  int:10:4,3    an array of that shape, of whole numbers from 0 to 9
  mask:4,3      an array of that shape, of True and False
  value:0.5     0.5, or another value as Python writes it: value:None, value:'same'

A single name is a layer, or what check_function takes: a function that returns (y, vjp), an object
that keeps its state. Modules are named as for import, and looked for in this folder first:

    python -m tinynet.gradient_check kernels:forward kernels:backward --args 4,3 3,5 5

The exit status is 0 if the backward pass is right, 1 if it is wrong, and 2 if it could not be
checked. In a test, take the fixture gradcheck: gradcheck(forward, backward, x, w, b).
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the line, and end with status 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check what is named, or run the tour; return the exit status."""
    parser = Parser(
        prog="python -m tinynet.gradient_check",
        usage=USAGE,
        description="Check hand-written backward passes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--args", nargs="+", default=[], metavar="ARG", help="see below")
    parser.add_argument(
        "--seed", type=whole_number, default=0, metavar="N", help="of the arrays drawn (0)"
    )
    dtypes = ("float64", "float32", "float16")
    parser.add_argument("--dtype", choices=dtypes, default="float64", help="of the arrays drawn")
    parser.add_argument(
        "--tour",
        action="store_true",
        help="a guided run in the terminal: a layer is checked, a bug is planted, you guess",
    )
    options, rest = parser.parse_known_args(arguments)
    if options.tour:
        from tinynet.testing.tour import main as tour  # it uses the checker, so it comes after it

        return tour(rest)
    unknown = [text for text in rest if text.startswith("-")]
    if unknown or len(rest) > 2:
        parser.error(f"unknown arguments: {' '.join(unknown or rest[2:])}")
    if not rest:
        parser.print_help()
        return 0
    rng = np.random.default_rng(options.seed)
    try:
        subjects = [named(text) for text in rest]
        args = [drawn(text, rng, options.dtype) for text in options.args]
    except ValueError as error:
        parser.error(str(error))
    try:
        print(check_any(*subjects, *args, seed=options.seed))
    except GradientError as error:
        print(error)
        return 1
    except Exception as error:
        parser.error(f"the check ended early: {in_a_line(error)}")
    return 0


def named(text: str) -> Any:
    """What MODULE:NAME names; ValueError, in a line, if there is no such thing."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise ValueError(f"{text!r} is not MODULE:NAME, such as kernels:forward")
    try:
        return attrgetter(name)(import_module(module))
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and module.startswith(str(error.name))
        advice = ": name the module as for import, in the folder that holds it" if missing else ""
        raise ValueError(f"{text} cannot be imported: {in_a_line(error)}{advice}") from None


def drawn(text: str, rng: np.random.Generator, dtype: str) -> Any:
    """The argument that ``text`` spells; ValueError, in a line, if it spells none."""
    *kind, last = text.split(":")
    try:
        if not kind:
            return rng.standard_normal(shape(last)).astype(dtype)
        if kind == ["int"]:
            return int(last)
        if kind[0] == "int" and len(kind) == 2:
            return rng.integers(int(kind[1]), size=shape(last))
        if kind == ["mask"]:
            return rng.random(shape(last)) < 0.5
        if kind[0] == "value":
            return literal_eval(text.removeprefix("value:"))
    except MemoryError as error:
        raise ValueError(f"--args {text}: {error}") from None
    except (ValueError, SyntaxError):
        pass
    raise ValueError(
        f"--args {text!r}, want a shape such as 4,3, or int:2, int:10:4,3, mask:4,3, value:0.5"
    )


def shape(text: str) -> tuple[int, ...]:
    sizes = tuple(map(int, text.split(",")))
    if min(sizes) < 1:
        raise ValueError
    return sizes


def in_a_line(error: BaseException) -> str:
    """The error, and where in somebody's code it was raised."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    ours = (
        "importlib" in where.filename or Path(__file__).parents[1] in Path(where.filename).parents
    )
    place = "" if ours else f" ({Path(where.filename).name}, line {where.lineno})"
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


if __name__ == "__main__":
    sys.exit(main())
