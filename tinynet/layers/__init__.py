"""The report's layers: one file per heading, pure functions above, thin layer below."""

from tinynet.layers.activations import (
    ReLU,
    Sigmoid,
    Softmax,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    softmax_backward,
    softmax_forward,
)
from tinynet.layers.batchnorm import (
    BatchNorm,
    batchnorm_backward,
    batchnorm_forward,
    batchnorm_frozen_backward,
    batchnorm_frozen_forward,
)
from tinynet.layers.combine import Concat, Residual, Sequential
from tinynet.layers.conv import Conv2D, conv2d_backward, conv2d_forward
from tinynet.layers.dense import Dense, dense_backward, dense_forward
from tinynet.layers.dropout import Dropout, dropout_backward, dropout_forward
from tinynet.layers.flatten import Flatten, flatten_backward, flatten_forward
from tinynet.layers.pooling import (
    AvgPool2D,
    GlobalAvgPool2D,
    MaxPool2D,
    SumPool2D,
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_backward,
    global_avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    sum_pool2d_backward,
    sum_pool2d_forward,
)

__all__ = [
    "AvgPool2D",
    "BatchNorm",
    "Concat",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2D",
    "MaxPool2D",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "SumPool2D",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "batchnorm_backward",
    "batchnorm_forward",
    "batchnorm_frozen_backward",
    "batchnorm_frozen_forward",
    "conv2d_backward",
    "conv2d_forward",
    "dense_backward",
    "dense_forward",
    "dropout_backward",
    "dropout_forward",
    "flatten_backward",
    "flatten_forward",
    "global_avg_pool2d_backward",
    "global_avg_pool2d_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_backward",
    "softmax_forward",
    "sum_pool2d_backward",
    "sum_pool2d_forward",
]
