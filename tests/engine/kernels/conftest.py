import pytest

from tinynet.backend import use_kernels
from tinynet.engine import threads
from tinynet.engine.kernels.numpy import dense, grouped, optimizers


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Small inputs then take the path of large ones: many blocks, bundles, several threads."""
    monkeypatch.setattr(threads, "BLOCK_BYTES", 1)
    monkeypatch.setattr(grouped, "BUNDLE", 4)
    monkeypatch.setattr(dense, "ROWS_BYTES", 1)
    monkeypatch.setattr(optimizers, "STRIP", 4)
    monkeypatch.setattr(threads, "thread_count", lambda: 2)


@pytest.fixture
def numpy_kernels():
    """The kernels written with NumPy run, where there are compiled ones too."""
    with use_kernels("numpy"):
        yield
