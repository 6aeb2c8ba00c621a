"""Which examples hypothesis draws, and which tests compare with another library.

    pytest                                                    the same examples in every run
    pytest --hypothesis-profile=seeded --hypothesis-seed=7    those of seed 7
    pytest -m oracle                                          comparisons with other libraries

Loaded before any test module, whose ``settings(...)`` take what they do not name from the profile.
"""

import re
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# too_slow: the first call of a kernel or of torch takes longer than the rest together
COMMON = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **COMMON)
settings.register_profile("seeded", derandomize=False, **COMMON)
settings.load_profile("repeatable")

ORACLE = re.compile(
    r"importorskip\(\s*\"(torch|torchvision|timm|keras|onnx|onnxruntime)\b|^from tests\.oracles ",
    re.MULTILINE,
)


@pytest.fixture(scope="session")
def torch():
    """torch as an oracle, on one thread."""
    module = pytest.importorskip(
        "torch", reason="torch is not installed: pip install torch==2.13.0"
    )
    module.set_num_threads(1)
    return module


def pytest_itemcollected(item):
    """Mark what compares with another library: .ci/run runs it again where that is installed."""
    if "torch" in item.fixturenames or has_oracle(item.module.__name__):
        item.add_marker("oracle")


@cache
def has_oracle(name):
    """Whether a test module, or a helper that it imports from, asks for another library."""
    module = sys.modules[name]
    if ORACLE.search(Path(module.__file__).read_text(encoding="utf-8")):
        return True
    origins = {getattr(value, "__module__", None) for value in vars(module).values()}
    helpers = {
        n for n in origins if str(n).startswith("tests.") and n not in (name, "tests.oracles")
    }
    return any(has_oracle(helper) for helper in helpers)
