"""python -m tinynet.testing.planted [FILE]: run every planted bug, write docs/planted.md."""

from __future__ import annotations

import argparse
import os
import platform
from datetime import date
from pathlib import Path

import numpy as np

from tinynet.testing.planted import PLANTED
from tinynet.testing.planted.table import page, try_out


def main() -> None:
    """Run all of them and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tinynet.testing.planted", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=Path("docs/planted.md"))
    file = parser.parse_args().file
    outcomes = [try_out(planted) for planted in PLANTED]
    made = (
        f"{date.today()}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"{platform.system()} {platform.machine()} with {os.cpu_count()} cores"
    )
    file.write_text(page(outcomes, made), encoding="utf-8")
    caught = sum(bool(outcome.said) for outcome in outcomes)
    print(f"{file}: {caught} of {len(outcomes)} caught")


if __name__ == "__main__":
    main()
