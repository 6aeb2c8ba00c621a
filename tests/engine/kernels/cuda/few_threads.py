"""Few and small blocks: small arrays take the path of large ones. On a GPU blocks are as always."""

import pytest

from tests.engine.kernels.cuda.on_cpu import Module
from tinynet.engine.gpu import multi_tensor, random
from tinynet.engine.kernels.cuda import (
    batchnorm_passes,
    cast,
    channel_sums,
    columns,
    conv,
    dense,
    dropout,
    few_channels,
    launch,
    optimizers,
    pooling,
    tails,
)


@pytest.fixture
def few_threads(cupy_kernels, monkeypatch):
    """On the processor 12 threads in a block, 3 of them along the channels; 2 × 4 add up the parts.

    So the rows of a block, 4, and its threads are no divisors of most sizes; and where a thread
    makes each number by itself there are two blocks of 8.
    """
    if cupy_kernels.RawModule is not Module:
        return
    monkeypatch.setattr(columns, "THREADS", 12)
    monkeypatch.setattr(columns, "WIDEST", 3)
    monkeypatch.setattr(columns, "BLOCKS", 8)
    monkeypatch.setattr(columns, "LEAST_ROWS", 2)
    for module in (columns, channel_sums, batchnorm_passes):
        monkeypatch.setattr(module, "FINISH", (2, 4))
    each_number = launch, batchnorm_passes, cast, dropout, few_channels, optimizers, pooling, random
    for module in (*each_number, tails, multi_tensor):
        monkeypatch.setattr(module, "THREADS", 8)
    monkeypatch.setattr(launch, "MOST_BLOCKS", 2)
    monkeypatch.setattr(few_channels, "MOST_PARTS", 4)
    monkeypatch.setattr(conv, "SIDE", 4)
    monkeypatch.setattr(conv, "PART", 64)
    monkeypatch.setattr(dense, "SIDE", 4)
    monkeypatch.setattr(dense, "ENOUGH_BLOCKS", 8)
    monkeypatch.setattr(multi_tensor, "CHUNK", 64)
