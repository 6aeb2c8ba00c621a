"""The pytest plugin, which is installed with tinynet: a fixture ``gradcheck`` and a marker.

    def test_my_kernel(gradcheck):
        gradcheck(forward, backward, x, w, b)       two functions, then forward's arguments
        gradcheck(function, x)                      what check_function takes: PyTorch, JAX, ...
        gradcheck(layer, x)                         a layer or a model
        gradcheck(loss, z, y)                       a loss

    @pytest.mark.gradcheck(tolerance=1e-4)          settings for each check of the test
    pytest -m gradcheck                             the tests that take the fixture
    pytest --gradcheck-seed 7                       with another upstream gradient

A wrong gradient fails the test at its own line, with the report. NumPy and the checker are imported
by the first check: other tests do not wait for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tinynet.gradient_check.choice import check_any, whole_number


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("tinynet").addoption(
        "--gradcheck-seed",
        type=whole_number,
        metavar="N",
        help="seed of the upstream gradients of the fixture gradcheck (default: a fixed one)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "gradcheck(**settings): checks a backward pass with tinynet's fixture gradcheck; the "
        "settings, such as tolerance=1e-4, are those of tinynet.gradient_check.check_backward",
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that take this fixture, and not one of that name from elsewhere."""
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    if any(found.func.__module__ == __name__ for found in known.get("gradcheck", ())[-1:]):
        item.add_marker("gradcheck")


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Check a backward pass: gradcheck(forward, backward, x, ...) or gradcheck(layer, x).

    It returns the report and raises GradientError, as the checks of ``tinynet.gradient_check`` do,
    and takes their keywords.
    """
    seed: int | None = request.config.getoption("--gradcheck-seed")
    marked: dict[str, Any] = {}
    for marker in request.node.iter_markers("gradcheck"):  # the nearest first
        marked = {**marker.kwargs, **marked}

    def check(subject: Any, *args: Any, **settings: Any) -> Any:
        __tracebackhide__ = True
        from tinynet.gradient_check.report import GradientError

        try:
            return check_any(subject, *args, seed=seed, **{**marked, **settings})
        except GradientError as error:
            if seed is not None:
                error.add_note(f"dy of --gradcheck-seed {seed}")
            # the report says all: the reader need not see how the checker came by it
            raise error.with_traceback(None) from None

    return check
