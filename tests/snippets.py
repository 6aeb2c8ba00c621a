"""Snippets of the documentation: ``>>>`` lines in fenced blocks, with what they print.

    python -m tests.snippets docs/gradient_checks.md     run them, and write what they print now

A test runs them too, and compares. What is rounding error differs from machine to machine, so
numbers are compared as numbers: those written with an exponent to a factor of 10 (all below 1e-13
are equal), the others to 5% or 0.05, counts to 3. A block that imports what is not installed stays
as it is.
"""

import contextlib
import doctest
import io
import math
import re
import sys
from pathlib import Path

BLOCK = re.compile(r"(?<=^```python\n)(>>> .*?)(?=^```$)", re.M | re.S)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def same(got, want):
    """Whether two outputs are alike but for their numbers, and these nearly equal."""
    if " ".join(NUMBER.sub("#", got).split()) != " ".join(NUMBER.sub("#", want).split()):
        return False
    pairs = zip(NUMBER.findall(got), NUMBER.findall(want), strict=True)
    return all(nearly(a, b) for a, b in pairs)


def nearly(got, want):
    a, b = abs(float(got)), abs(float(want))
    if "e" in want or "e" in got:
        return max(a, b) < 1e-13 or (min(a, b) > 0 and abs(math.log10(a / b)) <= 1)
    slack = 0.05 if "." in want else 3 if b >= 10 else 0
    return abs(float(got) - float(want)) <= max(0.05 * b if slack else 0, slack)


def run(text):
    """(text with what its snippets print now, [(code, printed, wanted) where that differs])."""
    names, wrong = {}, []

    def fresh(block):
        lines = []
        for example in doctest.DocTestParser().get_examples(block[1]):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                code = compile(example.source, "<snippet>", "single")
                try:
                    exec(code, names)
                except ModuleNotFoundError:
                    return block[0]
            got = printed.getvalue()
            if not same(got, example.want):
                wrong.append((example.source, got, example.want))
            first, *rest = example.source.splitlines()
            lines += [f">>> {first}", *(f"... {line}".rstrip() for line in rest), got.rstrip("\n")]
        return "\n".join(line for line in lines if line) + "\n"

    return BLOCK.sub(fresh, text), wrong


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(run(page.read_text(encoding="utf-8"))[0], encoding="utf-8")
