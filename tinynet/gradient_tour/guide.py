"""What the tour's stations speak through: paragraphs, code, questions, the verdicts of checks."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from tinynet.backend import Array
from tinynet.gradient_check import GradientError, check_backward
from tinynet.gradient_tour.usual import close, slope_along_a_line

WIDTH = 80
Forward = Callable[..., tuple[Array, Any]]
Backward = Callable[[Array, Any], Any]


class Guide:
    """Prints in 80 columns, and asks, if ``ask`` says that somebody is there to answer."""

    def __init__(self, ask: bool) -> None:
        self.ask = ask

    def title(self, text: str) -> None:
        """A headline."""
        print(f"\n{'-' * WIDTH}\n{text}\n{'-' * WIDTH}")

    def say(self, text: str) -> None:
        """A paragraph."""
        print("\n" + textwrap.fill(" ".join(text.split()), WIDTH))

    def code(self, label: str, function: Callable[..., Any]) -> None:
        """The lines of a function, without its first, which only names it."""
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
        """Wait for the reader."""
        self._read("\nEnter goes on. ")

    def usual(
        self, forward: Forward, backward: Backward, *args: Array, dy: Array | None = None
    ) -> bool:
        """Run the usual check and print its verdict; returns whether it passes."""
        got, wanted = slope_along_a_line(forward, backward, args, dy)
        passes = close(got, wanted)
        verdict = "passes" if passes else "FAILS"
        print(f"\n  the usual check {verdict}: slope {got:.8g}, measured {wanted:.8g}")
        return passes

    def usual_often(self, forward: Forward, backward: Backward, *args: Array) -> int:
        """Run the usual check along 100 lines; returns in how many it passes."""
        slopes = [slope_along_a_line(forward, backward, args, seed=seed) for seed in range(100)]
        passed = sum(close(*pair) for pair in slopes)
        print(f"\n  the usual check, run along 100 lines: passes {passed}, fails {100 - passed}")
        return passed

    def ours(self, forward: Forward, backward: Backward, *args: Any) -> bool:
        """Run ``check_backward`` and print its report; returns whether it passes."""
        try:
            report = check_backward(forward, backward, args)
        except GradientError as error:
            report = error.report
        print(f"\n  tinynet's check: {'right' if report.ok else 'WRONG'}")
        for fault in report.faults:
            print(textwrap.fill(f"    {fault}", WIDTH, subsequent_indent=" " * 6))
        print("    gradient of  elements  worst error  tolerance  verdict")
        for found in report.arrays:
            worst, accepted = (a[found.worst] for a in (found.error, found.tolerance))
            verdict = f"{found.wrong.sum()} wrong" if found.wrong.any() else "right"
            cells = f"{found.name:11}  {found.got.size:<8}  {worst:<11.1e}  {accepted:<9.1e}"
            print(f"    {cells}  {verdict}")
        return report.ok

    def finding(self, message: str) -> None:
        """What a check of another kind says."""
        print("\n" + textwrap.fill(f"  {message}", WIDTH, subsequent_indent=" " * 4))

    def _read(self, prompt: str) -> str:
        if not self.ask:
            return ""
        try:
            return input(prompt).strip()
        except EOFError:  # the input was closed: the tour goes on by itself
            self.ask = False
            return ""
