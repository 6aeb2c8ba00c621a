"""The operations: layers forward and backward, the loss, and Adam's update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from benchmarks.ops.op import CONTIGUOUS, Call, Cost, Images, Input, Matrix, Op, Weights
from benchmarks.ops.op import convolution as conv
from tinynet import layers, losses
from tinynet.backend import library_of
from tinynet.engine.plan import epilogues

FLOAT = 4  # bytes of a weight
EPSILON = 1e-3
RATE = 0.1  # Adam's: large, so that the change of a weight is as large as the weight
DX, DW, ALL = slice(0, 1), slice(1, 3), slice(None)  # of the gradients of x, w and b
PLAIN: dict[str, Any] = {"ways": (CONTIGUOUS,)}
HALF: dict[str, Any] = {"precisions": ("bf16", "fp32")}
Shapes = dict[str, dict[str, Any]]  # backend -> name -> shape


def weights(channels: int, filters: Sequence[int], dense: Sequence[int], vectors: int) -> Weights:
    shapes: list[tuple[int, ...]] = []
    for k in filters:
        shapes += [(3, 3, channels, k), *[(k,)] * vectors]
        channels = k
    for inputs, outputs in zip(dense, dense[1:], strict=False):
        shapes += [(inputs, outputs), (outputs,)]
    return Weights(tuple(shapes))


IMAGES = {
    "W128, block 1": Images(32, 128, 32),
    "W224, block 4": Images(16, 28, 256),
    "demo, block 1": Images(32, 64, 8),
}
VGG16 = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
SHAPES: dict[str, Shapes] = {
    "conv": {
        "cpu": {
            "W128, layer 1": conv(32, 128, 1, 32),
            "W128, layer 2": conv(32, 128, 32, 32),
            "W128, layer 4": conv(32, 64, 64, 64),
            "W128, layer 6": conv(32, 32, 128, 128),
            "W128, layer 8": conv(32, 16, 256, 256),
            "W224, layer 2": conv(16, 224, 32, 32),
            "W224, layer 7": conv(16, 28, 128, 256),
            "VGG-16, conv1_1": conv(4, 224, 3, 64),
            "VGG-16, conv2_2": conv(4, 112, 128, 128),
            "VGG-16, conv3_2": conv(4, 56, 256, 256),
            "VGG-16, conv5_1": conv(4, 14, 512, 512),
            "ResNet-50, 1×1": conv(8, 56, 256, 64, kernel=1),
            "ResNet-50, 3×3 by 2": conv(8, 56, 128, 128, stride=2),
            "ResNet-50, 7×7 by 2": conv(4, 224, 3, 64, kernel=7, stride=2),
        },
        "gpu": {  # without a bias: cuDNN's alone
            "3×3 64→64, 112": conv(32, 112, 64, 64, bias=False),
            "3×3 128→128, 56": conv(32, 56, 128, 128, bias=False),
            "3×3 256→256, 28": conv(64, 28, 256, 256, bias=False),
            "3×3 512→512, 14": conv(64, 14, 512, 512, bias=False),
            "1×1 256→64, 56": conv(64, 56, 256, 64, kernel=1, bias=False),
            "3×3 / 2 128→128, 56": conv(64, 56, 128, 128, stride=2, bias=False),
            "first 3×3 1→32, 128": conv(32, 128, 1, 32, bias=False),
            "first 3×3 3→64, 224": conv(32, 224, 3, 64, bias=False),
        },
    },
    "depthwise": {
        "cpu": {
            "MobileNet, 112": conv(8, 112, 32, 32, groups=32),
            "MobileNet, 112 by 2": conv(8, 112, 64, 64, stride=2, groups=64),
            "MobileNet, 14": conv(8, 14, 512, 512, groups=512),
        },
    },
    "max_pool": {
        "cpu": {
            "W128, block 1": Images(32, 128, 32, kernel=2, stride=2),
            "W224, block 2": Images(16, 112, 64, kernel=2, stride=2),
            "ResNet-50, 3×3 by 2": Images(8, 112, 64, kernel=3, stride=2, padding=1),
        },
        "gpu": {
            "2×2, 64, 224": Images(32, 224, 64, kernel=2, stride=2),
            "3×3 / 2, 64, 112": Images(64, 112, 64, kernel=3, stride=2, padding=1),
        },
    },
    "avg_pool": {
        "cpu": {
            "DenseNet-169, 2×2": Images(8, 56, 128, kernel=2, stride=2),
            "Inception-v4, 3×3 by 1": Images(4, 35, 384, kernel=3, padding=1),
        },
    },
    "batch_norm": {
        "cpu": {**IMAGES, "ResNet-50, 56": Images(8, 56, 256)},
        "gpu": {"256, 56": Images(64, 56, 256), "64, 112": Images(64, 112, 64)},
    },
    "relu": {"cpu": IMAGES, "gpu": {"256, 56": Images(64, 56, 256)}},
    "dense": {
        "cpu": {"W128": Matrix(32, 16384, 256), "VGG-16, fc7": Matrix(16, 4096, 4096)},
        "gpu": {
            "VGG16, 25088→4096": Matrix(64, 25088, 4096),
            "vgg_like, 16384→256": Matrix(32, 16384, 256),
        },
    },
    "softmax_cross_entropy": {
        "cpu": {"2 classes": Matrix(128, 0, 2), "1,000 classes": Matrix(256, 0, 1000)},
        "gpu": {"1,000 classes": Matrix(256, 0, 1000), "2 classes": Matrix(256, 0, 2)},
    },
    "adam": {
        "cpu": {
            "W128": weights(1, [32, 32, 64, 64, 128, 128, 256, 256], [16384, 256, 2], 1),
            "demo": weights(1, [8, 8, 16, 16, 32, 32, 64, 64], [1024, 128, 2], 2),
        },
        "gpu": {
            "VGG16, 138 M": weights(3, VGG16, [25088, 4096, 4096, 1000], 1),
            "100 small": Weights(((3, 3, 64, 64), (64,)) * 50),
        },
    },
}


@dataclass(frozen=True)
class Layer:
    """What both passes of a layer are made of; torch's backward pass is by autograd."""

    inputs: Callable[[Any], list[Input]]  # of a shape; their gradients are of the same kinds
    output: Callable[[Any], Input]
    ours: Callable[..., tuple[Any, Any]]  # (shape, *arrays) -> (y, cache)
    back: Callable[[Any, Any, slice], tuple[Any, ...]]  # (dy, cache, wanted) -> (dx, ...)
    theirs: Callable[..., Any]  # (shape, *tensors) -> y

    def cost(self, trips: int, mask: int) -> Callable[[Any, int], Cost]:
        """Inputs go to memory ``trips`` times, the output once, with ``mask`` bytes a number."""

        def of(s: Any, act: int) -> Cost:
            bytes_of = {"images": act, "rows": act, "filters": FLOAT, "matrix": FLOAT, "vector": 0}
            moved = trips * sum(bytes_of[x.kind] * prod(x.shape) for x in self.inputs(s))
            moved += (act + mask) * prod(self.output(s).shape)
            return Cost(trips * s.multiply_adds, moved)

        return of

    def op(
        self,
        name: str,
        group: str,
        shapes: Shapes | None = None,
        wanted: slice | None = None,
        trips: int = 1,
        mask: int = 0,
        **more: Any,
    ) -> Op:
        """The forward pass, or with ``wanted`` the gradients of those inputs."""

        def ours(s: Any, arrays: list[Any]) -> Call:
            if wanted is None:
                return lambda: self.ours(s, *arrays)[:1]
            _, cache = self.ours(s, *arrays[:-1])
            number, dy = len(arrays) - 1, arrays[-1]
            return lambda: self.back(dy, cache, wanted)[:number][wanted]

        def theirs(s: Any, tensors: list[Any], way: str) -> Call:
            import torch

            if wanted is None:
                return lambda: (self.theirs(s, *tensors),)
            *given, dy = tensors
            needed = [x.requires_grad_() for x in given[wanted]]
            y = self.theirs(s, *given)
            return lambda: torch.autograd.grad(y, needed, dy, retain_graph=True)

        def inputs(s: Any) -> list[Input]:
            return self.inputs(s) if wanted is None else [*self.inputs(s), self.output(s)]

        def results(s: Any) -> list[str]:
            return [
                x.kind for x in ([self.output(s)] if wanted is None else self.inputs(s)[wanted])
            ]

        cost = self.cost(trips, mask)
        return Op(name, group, shapes or SHAPES[group], inputs, ours, theirs, results, cost, **more)


def images(shape: str = "x") -> Callable[[Any], Input]:
    return lambda s: Input("images", getattr(s, shape))


# convolution, alone and with what follows it in a block


def conv_inputs(s: Images) -> list[Input]:
    bias = [Input("vector", (s.filters,))] if s.bias else []
    return [Input("images", s.x), Input("filters", s.w), *bias]


def our_conv(s: Images, x: Any, w: Any, b: Any = None) -> Any:
    geometry = {"groups": s.groups, "epilogue": s.epilogue}
    return epilogues.conv2d_fused_forward(x, w, b, s.stride, s.padding, **geometry)


def our_conv_back(dy: Any, cache: Any, wanted: slice) -> Any:
    """Our kernels for the CPU make all gradients together."""
    if wanted == DX and library_of(dy) == "cupy":
        from tinynet.engine.kernels.cuda.conv import input_gradient

        x, w, window, groups, _ = cache.operation
        return (input_gradient(dy, x, w, window, groups),)
    return epilogues.conv2d_fused_backward(dy, cache, wanted != DW)


def torch_conv(s: Images, x: Any, w: Any, b: Any = None) -> Any:
    from torch.nn.functional import conv2d, max_pool2d, relu

    z = conv2d(x, w, b, s.stride, s.padding, 1, s.groups)
    r = z if s.epilogue == "none" else relu(z, inplace=True)
    return max_pool2d(r, 2, return_indices=True)[0] if s.epilogue == "relu_pool" else r


def deep(backend: str) -> Shapes:
    """On one backend all but first layers, whose input's gradient is not needed."""
    kept = {name: s for name, s in SHAPES["conv"][backend].items() if s.channels > 3}
    return {backend: kept}


def in_block(epilogue: str) -> Shapes:
    """A convolution and its epilogue are one operation in tinynet's step."""
    at = ("W128, layer 2", "W128, layer 6")
    return {"cpu": {n: replace(SHAPES["conv"]["cpu"][n], epilogue=epilogue) for n in at}}


# pooling: max-pool keeps a byte for each output where torch keeps an int64


def pools(name: str, group: str) -> list[Op]:
    forward: Any = getattr(layers, f"{group}2d_forward")
    backward: Any = getattr(layers, f"{group}2d_backward")
    most = group == "max_pool"

    def theirs(s: Images, x: Any) -> Any:
        from torch.nn.functional import avg_pool2d, max_pool2d

        window = s.kernel, s.stride, s.padding
        if most:
            return max_pool2d(x, *window, return_indices=True)[0]
        return avg_pool2d(x, *window, count_include_pad=False)

    layer = Layer(
        lambda s: [images()(s)],
        images("y"),
        lambda s, x: forward(x, s.kernel, s.stride, s.padding),
        lambda dy, cache, wanted: (backward(dy, cache),),
        theirs,
    )
    more = {"mask": int(most), **HALF}
    return [
        layer.op(f"{name}, forward", group, **more),
        layer.op(f"{name}, backward", group, wanted=ALL, **more),
    ]


# batch norm in training, dense layers


def torch_norm(s: Images, x: Any, gamma: Any, beta: Any) -> Any:
    import torch

    moving = torch.zeros_like(gamma.detach()), torch.ones_like(gamma.detach())
    return torch.batch_norm(x, gamma, beta, *moving, True, 0.01, EPSILON, True)


def dense_inputs(s: Matrix) -> list[Input]:
    x, w = Input("rows", (s.batch, s.inputs)), Input("matrix", (s.inputs, s.outputs))
    return [x, w, Input("vector", (s.outputs,))]


def torch_dense(s: Matrix, x: Any, w: Any, b: Any) -> Any:
    from torch.nn.functional import linear

    return linear(x, w, b.to(x.dtype))


# softmax cross-entropy: its gradient, with the loss on the way


def our_loss(s: Matrix, arrays: list[Any]) -> Call:
    def call() -> tuple[Any, ...]:
        _, cache = losses.softmax_cross_entropy_forward(*arrays)
        return (losses.softmax_cross_entropy_backward(cache),)

    return call


def torch_loss(s: Matrix, tensors: list[Any], way: str) -> Call:
    import torch

    z, y = tensors[0].requires_grad_(), tensors[1]
    return lambda: torch.autograd.grad(torch.nn.functional.cross_entropy(z, y), z)


# Adam: all weights after an update; torch has a fused one as well as its default


def our_adam(s: Weights, arrays: list[Any]) -> Call:
    from tinynet.layer import Parameter
    from tinynet.optimizers import Adam

    optimizer, half = Adam(RATE), len(s.shapes)
    parameters = {str(number): Parameter(w) for number, w in enumerate(arrays[:half])}
    for p, g in zip(parameters.values(), arrays[half:], strict=True):
        p.grad = g

    def call() -> tuple[Any, ...]:
        optimizer.step(parameters)
        return tuple(p.value for p in parameters.values())

    return call


def torch_adam(s: Weights, tensors: list[Any], way: str) -> Call:
    import torch

    half = len(s.shapes)
    parameters = [torch.nn.Parameter(w) for w in tensors[:half]]
    for p, g in zip(parameters, tensors[half:], strict=True):
        p.grad = g
    optimizer = torch.optim.Adam(parameters, RATE, fused=way == "fused" or None)

    def call() -> tuple[Any, ...]:
        optimizer.step()
        return tuple(parameters)

    return call


CONV = Layer(conv_inputs, images("y"), our_conv, our_conv_back, torch_conv)
NORM = Layer(
    lambda s: [Input("images", s.x), *[Input("vector", (s.channels,))] * 2],
    images(),
    lambda s, x, gamma, beta: epilogues.batchnorm_fused_forward(x, gamma, beta, EPSILON),
    lambda dy, cache, wanted: epilogues.batchnorm_fused_backward(dy, cache),
    torch_norm,
)
RELU = Layer(
    lambda s: [images()(s)],
    images(),
    lambda s, x: layers.relu_forward(x),
    lambda dy, cache, wanted: (layers.relu_backward(dy, cache),),
    lambda s, x: x.relu(),
)
DENSE = Layer(
    dense_inputs,
    lambda s: Input("rows", (s.batch, s.outputs)),
    lambda s, x, w, b: layers.dense_forward(x, w, b),
    lambda dz, cache, wanted: layers.dense_backward(dz, cache),
    torch_dense,
)
# of two numbers that nearly tie, rounding decides which gets the gradient: a few of millions of
# windows decide otherwise than torch's, and each by as much as it likes
TIES: dict[str, Any] = {"norm": "mean square", "tolerance": 1e-2}
C, D = "convolution", "depthwise convolution"
OPS = (
    CONV.op(f"{C}, forward", "conv_forward", SHAPES["conv"]),
    CONV.op(f"{C}, weight gradient", "conv_weight_gradient", SHAPES["conv"], DW),
    CONV.op(f"{C}, input gradient", "conv_input_gradient", deep("gpu"), DX),
    CONV.op(f"{C}, all gradients", "conv_backward", deep("cpu"), ALL, trips=2),
    *(
        op
        for said, shapes in (("ReLU", in_block("relu")), ("ReLU, max-pool", in_block("relu_pool")))
        for op in (
            CONV.op(f"{C}, {said}, forward", "conv_block", shapes),
            CONV.op(f"{C}, {said}, all gradients", "conv_block", shapes, ALL, trips=2, **TIES),
        )
    ),
    CONV.op(f"{D}, forward", "depthwise"),
    CONV.op(f"{D}, all gradients", "depthwise", wanted=ALL, trips=2),
    *pools("max-pool", "max_pool"),
    *pools("average pool", "avg_pool"),
    NORM.op("batch norm, forward", "batch_norm", **HALF),
    NORM.op("batch norm, backward", "batch_norm", wanted=ALL, trips=2, **HALF),
    RELU.op("ReLU, forward", "relu", **PLAIN, **HALF),
    RELU.op("ReLU, backward", "relu", wanted=ALL, mask=1, **PLAIN, **HALF),
    DENSE.op("dense, forward", "dense", **PLAIN),
    DENSE.op("dense, all gradients", "dense", wanted=ALL, trips=2, **PLAIN),
    Op(
        *("softmax cross-entropy, both", "softmax_cross_entropy", SHAPES["softmax_cross_entropy"]),
        lambda s: [Input("rows", (s.batch, s.outputs)), Input("labels", (s.batch,), s.outputs)],
        *(our_loss, torch_loss, lambda s: ["rows"]),
        lambda s, act: Cost(0, 2 * act * s.batch * s.outputs),
        precisions=("fp32",),  # logits are float32 whatever the activations are
        **PLAIN,
    ),
    Op(
        *("Adam", "adam", SHAPES["adam"]),
        lambda s: [Input("vector", shape) for shape in s.shapes * 2],
        *(our_adam, torch_adam, lambda s: ["vector"] * len(s.shapes)),
        lambda s, act: Cost(0, 7 * FLOAT * sum(map(prod, s.shapes))),  # w, m, v, g in; w, m, v out
        ways=("default", "fused"),
        precisions=("fp32",),
        calls=3,
    ),
)
