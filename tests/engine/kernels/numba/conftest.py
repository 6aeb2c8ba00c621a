import pytest


@pytest.fixture(autouse=True, scope="package")
def numba():
    """The tests here compile kernels."""
    return pytest.importorskip("numba", reason='Numba is not installed: pip install ".[fast]"')
