"""Few and small blocks: small arrays take the path of large ones. On a GPU blocks are as always."""

import pytest

from tests.engine.kernels.cuda.on_cpu import Module
from tinynet.engine.gpu import multi_tensor, random
from tinynet.engine.kernels import cuda
from tinynet.engine.kernels.cuda import source

SMALL = {
    "columns": {"THREADS": 12, "WIDEST": 3, "BLOCKS": 8, "LEAST_ROWS": 2, "FINISH": (2, 4)},
    "batchnorm": {"FINISH": (2, 4)},
    "launch": {"MOST_BLOCKS": 2},
    "few_channels": {"MOST_PARTS": 4, "ROUNDS": 3},
    "conv": {"SIDE": 4, "PART": 16},
    "dense": {"SIDE": 4, "ENOUGH_BLOCKS": 8, "LEAST_DEPTH": 6, "MOST_PARTS": 5},
    "losses": {"WARP": 4, "MOST_THREADS": 8},
}
EACH_NUMBER = ("launch", "batchnorm", "elementwise", "dense", "dropout", "epilogues")
EACH_NUMBER += ("few_channels", "pooling")


@pytest.fixture
def few_threads(cupy_kernels, monkeypatch):
    """On the processor 12 threads in a block, 3 of them along the channels; 2 × 4 add up the parts.

    So the rows of a block, 4, and its threads divide few sizes; and where a thread makes each
    number by itself there are two blocks of 8, so that it takes several, and some none at the end.
    """
    if cupy_kernels.RawModule is not Module:
        return
    for name, values in SMALL.items():
        for key, value in values.items():
            monkeypatch.setattr(getattr(cuda, name), key, value)
    for module in (*(getattr(cuda, name) for name in EACH_NUMBER), multi_tensor, random):
        monkeypatch.setattr(module, "THREADS", 8)
    monkeypatch.setattr(multi_tensor, "CHUNK", 64)
    source.forget()
    yield
    source.forget()
