"""The checker's command line: ``python -m tinynet.gradient_check --tour``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

EPILOG = """\
To check your own code, call the checker from Python or from a test:

    from tinynet.gradient_check import check_backward, check_gradients
    print(check_gradients(layer, x))                  a tinynet layer or model
    print(check_backward(forward, backward, args))    any pair of functions on NumPy arrays

Both print a table, and raise GradientError, which explains, if a gradient is wrong.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tour, or print what the checker is for; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tinynet.gradient_check",
        description="Check hand-written backward passes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--tour",
        action="store_true",
        help="a guided run in the terminal: a layer is checked, a bug is planted, you guess",
    )
    options, rest = parser.parse_known_args(arguments)
    if options.tour:
        from tinynet.testing.tour import main as tour  # it uses the checker, so it comes after it

        return tour(rest)
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    parser.print_help()
    return 0


if __name__ == "__main__":
    sys.exit(main())
