"""Few and small blocks, so that small arrays take the path of large ones; and a GPU's, on a GPU."""

import pytest

from tinynet.doctor.gpu import read_gpu
from tinynet.kernels.cuda import (
    batchnorm_passes,
    cast,
    channel_sums,
    columns,
    launch,
    source,
    tails,
)

ON_GPU = pytest.param(
    "a GPU",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not read_gpu().devices, reason="there is no NVIDIA GPU with CuPy"),
    ],
)


@pytest.fixture(params=["the processor", ON_GPU])
def few_threads(request, monkeypatch):
    """On the processor 12 threads in a block, 3 of them along the channels; 2 × 4 add up the parts.

    So the rows of a block, 4, and its threads are no divisors of most sizes; and where a thread
    makes each number by itself there are two blocks of 8. On a GPU the blocks are as always.
    """
    for cached in (source.function, source._module):
        cached.cache_clear()
    if request.param == "the processor":
        request.getfixturevalue("cupy_on_cpu")
        monkeypatch.setattr(columns, "THREADS", 12)
        monkeypatch.setattr(columns, "WIDEST", 3)
        monkeypatch.setattr(columns, "BLOCKS", 8)
        monkeypatch.setattr(columns, "LEAST_ROWS", 2)
        for module in (columns, channel_sums, batchnorm_passes):
            monkeypatch.setattr(module, "FINISH", (2, 4))
        for module in (launch, batchnorm_passes, cast, tails):
            monkeypatch.setattr(module, "THREADS", 8)
        monkeypatch.setattr(launch, "MOST_BLOCKS", 2)
    yield
    for cached in (source.function, source._module):
        cached.cache_clear()
