"""What the tour prints: paragraphs, code, questions, and the verdicts of two checks."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.gradient_check import GradientError, check_backward
from tinynet.gradient_check.checkable import CheckablePair
from tinynet.testing.planted import Subject
from tinynet.testing.usual_checks import close, slopes_along_a_line

WIDTH = 80
Forward = Callable[..., tuple[Array, Any]]
Backward = Callable[[Array, Any], Any]


class Guide:
    """Prints in 80 columns, and asks if ``ask`` is True."""

    def __init__(self, ask: bool) -> None:
        self.ask = ask

    def title(self, text: str) -> None:
        print(f"\n{'-' * WIDTH}\n{text}\n{'-' * WIDTH}")

    def say(self, text: str) -> None:
        print("\n" + textwrap.fill(" ".join(text.split()), WIDTH))

    def code(self, **functions: Callable[..., Any]) -> None:
        """The lines of each function under its label, without the first, which only names it."""
        for label, function in functions.items():
            lines = inspect.getsource(function).splitlines()[1:]
            print(f"\n  {label}\n" + textwrap.indent(textwrap.dedent("\n".join(lines)), " " * 6))

    def guess(self, question: str, choices: Sequence[str], right: int) -> None:
        """A question with numbered answers, of which number ``right`` is true."""
        self.say(question)
        for number, choice in enumerate(choices, start=1):
            print(textwrap.fill(f"  {number}  {choice}", WIDTH, subsequent_indent=" " * 5))
        answer = self._read(f"Your guess, 1 to {len(choices)}, or Enter: ")
        if answer:
            print("\nYes." if answer == str(right) else f"\nIt is {right}.")
        else:
            print(f"\n(It is {right}.)")

    def pause(self) -> None:
        self._read("\nEnter goes on. ")

    def usual(
        self, forward: Forward, backward: Backward, *args: Array, dy: Array | None = None
    ) -> bool:
        """Run the usual check and print its verdict; return True if it passes."""
        got, wanted = self._slopes(forward, backward, args, dy)
        passes = close(got, wanted)
        verdict = "passes" if passes else "FAILS"
        print(f"\n  the usual check {verdict}: slope {got:.8g}, measured {wanted:.8g}")
        return passes

    def usual_often(self, forward: Forward, backward: Backward, *args: Array) -> int:
        """Run the usual check along 100 lines; return how often it passes."""
        slopes = [self._slopes(forward, backward, args, seed=seed) for seed in range(100)]
        passed = sum(close(*pair) for pair in slopes)
        print(f"\n  the usual check, run along 100 lines: passes {passed}, fails {100 - passed}")
        return passed

    def ours(self, forward: Forward, backward: Backward, *args: Any) -> bool:
        """Run ``check_backward`` and print its report; return True if it passes."""
        try:
            report = check_backward(forward, backward, args)
        except GradientError as error:
            report = error.report
        print(f"\n  tinynet's check: {'right' if report.ok else 'WRONG'}")
        for fault in report.faults:
            print(textwrap.fill(f"    {fault}", WIDTH, subsequent_indent=" " * 6))
        print("    gradient of  elements  worst error  tolerance  verdict")
        for name, _, size, worst, tolerance, _, verdict in (a.row() for a in report.arrays):
            print(f"    {name:11}  {size:8}  {worst:11}  {tolerance:9}  {verdict}")
        return report.ok

    def finding(self, message: str) -> None:
        print("\n" + textwrap.fill(f"  {message}", WIDTH, subsequent_indent=" " * 4))

    @staticmethod
    def _slopes(
        forward: Forward, backward: Backward, args: Sequence[Array], dy: Any = None, seed: int = 7
    ) -> tuple[float, float]:
        """One slope along a random direction, as the backward pass has it and measured.

        dy   None: drawn at random, as the direction is
        """
        names, rng = [f"{i}" for i in range(len(args))], np.random.default_rng(seed)
        pair = CheckablePair("", (forward, backward), args, names, str(args[0].dtype))
        y, cache = pair.forward()
        dy = rng.standard_normal(y.shape).astype(y.dtype) if dy is None else dy
        subject = Subject(pair.arrays, pair.forward, pair.backward)
        return slopes_along_a_line(subject, dy, cache, rng)

    def _read(self, prompt: str) -> str:
        if not self.ask:
            return ""
        try:
            return input(prompt).strip()
        except EOFError:  # the input was closed: the tour goes on by itself
            self.ask = False
            return ""
