"""Files are what is tested here, not kernels: those that need no compiling run."""

import pytest

from tinynet.backend import use_kernels


@pytest.fixture(autouse=True)
def kernels_of_numpy():
    with use_kernels("numpy"):
        yield
