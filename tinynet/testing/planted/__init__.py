"""Wrong backward passes, each with one thing wrong, to check gradient checkers with.

    for planted in PLANTED:
        case = planted.case()
        case.check(wrong=False)     the same code without the bug: passes
        case.check()                raises GradientError

Each is a bug that somebody has made, shipped or could make in a line. They are in one file for each
family of layers; the bug is the docstring, and stands beside the right code it calls.
``python -m tinynet.testing.planted`` runs them through tinynet's check and through the usual ones
and writes docs/planted.md.
"""

from tinynet.testing.planted import (
    activations,
    batchnorm,
    bookkeeping,
    channels,
    containers,
    convolution,
    dense,
    gate,
    local_response,
    losses,
    pooling,
)
from tinynet.testing.planted.bench import (
    Case,
    FunctionBench,
    LayerBench,
    LossBench,
    Planted,
    Subject,
)

__all__ = [
    "BENCHES",
    "PLANTED",
    "Case",
    "FunctionBench",
    "LayerBench",
    "LossBench",
    "Planted",
    "Subject",
]

BENCHES: tuple[FunctionBench | LayerBench | LossBench, ...] = (
    dense.dense,
    bookkeeping.dense,
    bookkeeping.applied_twice,
    convolution.conv,
    pooling.max_pool,
    pooling.padded_max_pool,
    pooling.tied_max_pool,
    pooling.avg_pool,
    pooling.sum_pool,
    pooling.global_pool,
    pooling.adaptive_pool,
    pooling.flatten,
    activations.relu,
    bookkeeping.relu,
    activations.relu6,
    activations.sigmoid,
    activations.softmax,
    activations.dropout,
    activations.dropout_layer,
    activations.dropout_twice,
    batchnorm.batchnorm,
    batchnorm.of_pixels,
    batchnorm.frozen,
    batchnorm.layer,
    batchnorm.layer_outside_training,
    batchnorm.layer_without_scale,
    local_response.norm,
    channels.shuffle,
    channels.slicing,
    gate.scale,
    losses.softmax_loss,
    losses.large_batch,
    losses.function,
    losses.plain_loss,
    containers.sequential,
    containers.identity,
    containers.projected,
    containers.concat,
    gate.product,
    gate.layer,
)
PLANTED: tuple[Planted, ...] = tuple(bug for bench in BENCHES for bug in bench.bugs)
