"""Which examples hypothesis draws: the same in every run, or others by a seed.

    pytest                                                    each test's own, always the same
    pytest --hypothesis-profile=seeded --hypothesis-seed=7    those of seed 7

Loaded before any test module, whose ``settings(...)`` take what they do not name from the profile.
"""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# too_slow: the first call of a kernel or of torch takes longer than the rest together
COMMON = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **COMMON)
settings.register_profile("seeded", derandomize=False, **COMMON)
settings.load_profile("repeatable")


@pytest.fixture
def default_sigint() -> Iterator[None]:
    """Make Ctrl-C raise KeyboardInterrupt even if the runner started us with SIGINT ignored.

    ``nohup``, a background job of ``sh`` and some CI systems do.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
