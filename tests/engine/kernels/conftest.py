import pytest

from tinynet.backend import use_kernels
from tinynet.engine import threads
from tinynet.engine.kernels.numpy import dense, grouped


@pytest.fixture(autouse=True, scope="package")
def one_image_a_block():
    """Small inputs then take the path of large ones: many blocks, bundles, several threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "BLOCK_BYTES", 1)
        patch.setattr(grouped, "BUNDLE", 4)
        patch.setattr(dense, "ROWS_BYTES", 1)
        patch.setattr(threads, "thread_count", lambda: 2)
        yield


@pytest.fixture
def numpy_kernels():
    """The kernels written with NumPy run, where there are compiled ones too."""
    with use_kernels("numpy"):
        yield
