"""How far predictions are from the true labels.  Report §2.3.1-2, §3.2."""

from tinynet.losses.auxiliary import WithAuxiliary
from tinynet.losses.base import Loss, one_hot
from tinynet.losses.cross_entropy import (
    CrossEntropy,
    SoftmaxCrossEntropy,
    cross_entropy_backward,
    cross_entropy_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)

__all__ = [
    "CrossEntropy",
    "Loss",
    "SoftmaxCrossEntropy",
    "WithAuxiliary",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "one_hot",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
]
