"""The operations: layers forward and backward, the loss, and Adam's update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.ops.op import CONTIGUOUS, Call, Cost, Input, Op
from benchmarks.ops.shapes import Conv, Images, Matrix, Pool, Weights, size
from tinynet import blocks, layers, losses
from tinynet.backend import library_of

FLOAT = 4  # bytes of a weight
EPSILON = 1e-3
RATE = 0.1  # Adam's: large, so that the change of a weight is as large as the weight
NOT_TF32 = ("bf16", "fp32")
DX, DW, ALL = slice(0, 1), slice(1, 3), slice(None)  # of the gradients of x, w and b

CONVOLUTIONS = {
    "W128, layer 1": Conv(32, 128, 1, 32),
    "W128, layer 2": Conv(32, 128, 32, 32),
    "W128, layer 4": Conv(32, 64, 64, 64),
    "W128, layer 6": Conv(32, 32, 128, 128),
    "W128, layer 8": Conv(32, 16, 256, 256),
    "W224, layer 2": Conv(16, 224, 32, 32),
    "W224, layer 7": Conv(16, 28, 128, 256),
    "VGG-16, conv1_1": Conv(4, 224, 3, 64),
    "VGG-16, conv2_2": Conv(4, 112, 128, 128),
    "VGG-16, conv3_2": Conv(4, 56, 256, 256),
    "VGG-16, conv5_1": Conv(4, 14, 512, 512),
    "ResNet-50, 1×1": Conv(8, 56, 256, 64, kernel=1),
    "ResNet-50, 3×3 by 2": Conv(8, 56, 128, 128, stride=2),
    "ResNet-50, 7×7 by 2": Conv(4, 224, 3, 64, kernel=7, stride=2),
}
DEPTHWISE = {
    "MobileNet, 112": Conv(8, 112, 32, 32, groups=32),
    "MobileNet, 112 by 2": Conv(8, 112, 64, 64, stride=2, groups=64),
    "MobileNet, 14": Conv(8, 14, 512, 512, groups=512),
}
GPU_CONVOLUTIONS = {  # without a bias: cuDNN's alone
    "3×3 64→64, 112": Conv(32, 112, 64, 64, bias=False),
    "3×3 128→128, 56": Conv(32, 56, 128, 128, bias=False),
    "3×3 256→256, 28": Conv(64, 28, 256, 256, bias=False),
    "3×3 512→512, 14": Conv(64, 14, 512, 512, bias=False),
    "1×1 256→64, 56": Conv(64, 56, 256, 64, kernel=1, bias=False),
    "3×3 / 2 128→128, 56": Conv(64, 56, 128, 128, stride=2, bias=False),
    "first 3×3 1→32, 128": Conv(32, 128, 1, 32, bias=False),
    "first 3×3 3→64, 224": Conv(32, 224, 3, 64, bias=False),
}
MAX_POOLS = {
    "W128, block 1": Pool(32, 128, 32),
    "W224, block 2": Pool(16, 112, 64),
    "ResNet-50, 3×3 by 2": Pool(8, 112, 64, kernel=3, stride=2, padding=1),
}
GPU_MAX_POOLS = {
    "2×2, 64, 224": Pool(32, 224, 64),
    "3×3 / 2, 64, 112": Pool(64, 112, 64, kernel=3, stride=2, padding=1),
}
AVERAGE_POOLS = {
    "DenseNet-169, 2×2": Pool(8, 56, 128),
    "Inception-v4, 3×3 by 1": Pool(4, 35, 384, kernel=3, stride=1, padding=1),
}
IMAGES = {
    "W128, block 1": Images(32, 128, 32),
    "W224, block 4": Images(16, 28, 256),
    "demo, block 1": Images(32, 64, 8),
}
NORMS = IMAGES | {"ResNet-50, 56": Images(8, 56, 256)}
GPU_IMAGES = {"256, 56": Images(64, 56, 256)}
GPU_NORMS = GPU_IMAGES | {"64, 112": Images(64, 112, 64)}
MATRICES = {"W128": Matrix(32, 16384, 256), "VGG-16, fc7": Matrix(16, 4096, 4096)}
GPU_MATRICES = {
    "VGG16, 25088→4096": Matrix(64, 25088, 4096),
    "vgg_like, 16384→256": Matrix(32, 16384, 256),
}
LOSSES = {"2 classes": Matrix(128, 0, 2), "1,000 classes": Matrix(256, 0, 1000)}
GPU_LOSSES = {"1,000 classes": Matrix(256, 0, 1000), "2 classes": Matrix(256, 0, 2)}


def weights(channels: int, filters: Sequence[int], dense: Sequence[int], vectors: int) -> Weights:
    """Shapes of a network's 3×3 convolutions, with ``vectors`` of each, and of its dense layers."""
    shapes: list[tuple[int, ...]] = []
    for k in filters:
        shapes += [(3, 3, channels, k), *[(k,)] * vectors]
        channels = k
    for inputs, outputs in zip(dense, dense[1:], strict=False):
        shapes += [(inputs, outputs), (outputs,)]
    return Weights(tuple(shapes))


VGG16 = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
NETWORKS = {
    "W128": weights(1, [32, 32, 64, 64, 128, 128, 256, 256], [16384, 256, 2], 1),
    "demo": weights(1, [8, 8, 16, 16, 32, 32, 64, 64], [1024, 128, 2], 2),
}
GPU_NETWORKS = {
    "VGG16, 138 M": weights(3, VGG16, [25088, 4096, 4096, 1000], 1),
    "100 small": Weights(((3, 3, 64, 64), (64,)) * 50),
}


@dataclass(frozen=True)
class Layer:
    """What both passes of a layer are made of.

    inputs   of a shape; their gradients are of the same kinds
    output   of a shape
    ours     (shape, *arrays) -> (y, cache)
    back     (dy, cache, wanted) -> the gradient of each input
    theirs   (shape, *tensors) -> y; torch's backward pass is by autograd
    """

    inputs: Callable[[Any], list[Input]]
    output: Callable[[Any], Input]
    ours: Callable[..., tuple[Any, Any]]
    back: Callable[[Any, Any, slice], tuple[Any, ...]]
    theirs: Callable[..., Any]

    def forward(self, name: str, group: str, cpu: Any, gpu: Any, cost: Any, **more: Any) -> Op:
        return Op(
            *(name, group, cpu, gpu, self.inputs),
            lambda s, arrays: lambda: self.ours(s, *arrays)[:1],
            lambda s, tensors, way: lambda: (self.theirs(s, *tensors),),
            *(lambda s: [self.output(s).kind], cost),
            **more,
        )

    def backward(
        self, name: str, group: str, cpu: Any, gpu: Any, cost: Any, wanted: slice = ALL, **more: Any
    ) -> Op:
        """The gradients of ``wanted`` inputs."""

        def ours(s: Any, arrays: list[Any]) -> Call:
            _, cache = self.ours(s, *arrays[:-1])
            number, dy = len(arrays) - 1, arrays[-1]
            return lambda: self.back(dy, cache, wanted)[:number][wanted]

        def theirs(s: Any, tensors: list[Any], way: str) -> Call:
            import torch

            *given, dy = tensors
            needed = [x.requires_grad_() for x in given[wanted]]
            y = self.theirs(s, *given)
            return lambda: torch.autograd.grad(y, needed, dy, retain_graph=True)

        return Op(
            *(name, group, cpu, gpu, lambda s: [*self.inputs(s), self.output(s)], ours, theirs),
            *(lambda s: [given.kind for given in self.inputs(s)[wanted]], cost),
            **more,
        )


def images(shape: str = "x") -> Callable[[Any], Input]:
    """Images of a shape's ``shape``."""
    return lambda s: Input("images", getattr(s, shape))


def moved(times: int, mask: int = 0) -> Any:
    """So many trips of the images to memory, and ``mask`` bytes for each number."""
    return lambda s, act: Cost(0, (times * act + mask) * size(s.x))


# convolution, alone and with what follows it in a block


def conv_inputs(s: Conv) -> list[Input]:
    bias = [Input("vector", (s.filters,))] if s.bias else []
    return [Input("images", s.x), Input("filters", s.w), *bias]


def our_conv(s: Conv, x: Any, w: Any, b: Any = None) -> Any:
    geometry = {"groups": s.groups, "tail": s.tail}
    return blocks.conv2d_block_forward(x, w, b, s.stride, s.padding, **geometry)


def our_conv_back(dy: Any, cache: Any, wanted: slice) -> Any:
    """Our kernels for the CPU make all gradients together."""
    if wanted == DX and library_of(dy) == "cupy":
        from tinynet.kernels.cuda.conv import input_gradient

        return (input_gradient(dy, cache.x, cache.w, cache.window, 1),)
    return blocks.conv2d_block_backward(dy, cache, wanted != DW)


def torch_conv(s: Conv, x: Any, w: Any, b: Any = None) -> Any:
    from torch.nn.functional import conv2d, max_pool2d, relu

    z = conv2d(x, w, b, s.stride, s.padding, 1, s.groups)
    r = z if s.tail == "none" else relu(z, inplace=True)
    return max_pool2d(r, 2, return_indices=True)[0] if s.tail == "relu_pool" else r


def conv_cost(products: int) -> Any:
    """Each array is read or written once; x and w again for all gradients."""

    def cost(s: Conv, act: int) -> Cost:
        x, w = products * size(s.x), products * size(s.w)
        return Cost(products * s.multiply_adds, act * (x + size(s.y)) + FLOAT * w)

    return cost


def deep(shapes: dict[str, Conv]) -> dict[str, Conv]:
    """Leave out first layers, whose input's gradient is not needed."""
    return {name: s for name, s in shapes.items() if s.channels > 3}


def in_block(tail: str) -> tuple[str, dict[str, Conv], dict[str, Conv]]:
    """A convolution and its tail are one operation in tinynet's step."""
    at = ("W128, layer 2", "W128, layer 6")
    return "conv_block", {name: replace(CONVOLUTIONS[name], tail=tail) for name in at}, {}


# pooling: max-pool keeps a byte for each output where torch keeps an int64


def pools(name: str, cpu: Any, gpu: Any, most: bool) -> list[Op]:
    kind = "max" if most else "avg"
    forward: Any = getattr(layers, f"{kind}_pool2d_forward")
    backward: Any = getattr(layers, f"{kind}_pool2d_backward")

    def theirs(s: Pool, x: Any) -> Any:
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
    cost = lambda s, act: Cost(0, act * size(s.x, s.y) + most * size(s.y))  # noqa: E731
    where = f"{kind}_pool", cpu, gpu, cost
    return [
        layer.forward(f"{name}, forward", *where, precisions=NOT_TF32),
        layer.backward(f"{name}, backward", *where, precisions=NOT_TF32),
    ]


# batch norm in training, ReLU where no convolution has it as its tail, dense layers


def torch_norm(s: Images, x: Any, gamma: Any, beta: Any) -> Any:
    import torch

    moving = torch.zeros_like(gamma.detach()), torch.ones_like(gamma.detach())
    return torch.batch_norm(x, gamma, beta, *moving, True, 0.01, EPSILON, True)


def torch_relu(s: Images, x: Any) -> Any:
    return x.relu()


def dense_inputs(s: Matrix) -> list[Input]:
    x, w = Input("rows", (s.batch, s.inputs)), Input("matrix", (s.inputs, s.outputs))
    return [x, w, Input("vector", (s.outputs,))]


def torch_dense(s: Matrix, x: Any, w: Any, b: Any) -> Any:
    from torch.nn.functional import linear

    return linear(x, w, b.to(x.dtype))


def dense_cost(products: int) -> Any:
    """x, w and z are read or written once, and x and w again for the gradients."""

    def cost(s: Matrix, act: int) -> Cost:
        x, w = products * s.batch * s.inputs, products * s.inputs * s.outputs
        return Cost(s.batch * w, act * (x + s.batch * s.outputs) + FLOAT * w)

    return cost


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
    lambda s, x, gamma, beta: blocks.batchnorm_block_forward(x, gamma, beta, EPSILON),
    lambda dy, cache, wanted: blocks.batchnorm_block_backward(dy, cache),
    torch_norm,
)
RELU = Layer(
    lambda s: [images()(s)],
    images(),
    lambda s, x: layers.relu_forward(x),
    lambda dy, cache, wanted: (layers.relu_backward(dy, cache),),
    torch_relu,
)
DENSE = Layer(
    dense_inputs,
    lambda s: Input("rows", (s.batch, s.outputs)),
    lambda s, x, w, b: layers.dense_forward(x, w, b),
    lambda dz, cache, wanted: layers.dense_backward(dz, cache),
    torch_dense,
)
PLAIN: dict[str, Any] = {"ways": (CONTIGUOUS,)}
HALF: dict[str, Any] = {"precisions": NOT_TF32}
# of two numbers that nearly tie, rounding decides which gets the gradient: a few of millions of
# windows decide otherwise than torch's, and each by as much as it likes
TIES: dict[str, Any] = {"norm": "mean square", "tolerance": 1e-2}
C, GC, D = CONVOLUTIONS, GPU_CONVOLUTIONS, DEPTHWISE
OPS = (
    CONV.forward("convolution, forward", "conv_forward", C, GC, conv_cost(1)),
    CONV.backward("convolution, weight gradient", "conv_weight_gradient", C, GC, conv_cost(1), DW),
    CONV.backward(
        "convolution, input gradient", "conv_input_gradient", {}, deep(GC), conv_cost(1), DX
    ),
    CONV.backward("convolution, all gradients", "conv_backward", deep(C), {}, conv_cost(2)),
    *(
        op
        for tail, said in (
            ("relu", "ReLU"),
            ("relu_pool", "ReLU, max-pool"),
        )
        for op in (
            CONV.forward(f"convolution, {said}, forward", *in_block(tail), conv_cost(1)),
            CONV.backward(
                f"convolution, {said}, all gradients", *in_block(tail), conv_cost(2), **TIES
            ),
        )
    ),
    CONV.forward("depthwise convolution, forward", "depthwise", D, {}, conv_cost(1)),
    CONV.backward("depthwise convolution, all gradients", "depthwise", D, {}, conv_cost(2)),
    *pools("max-pool", MAX_POOLS, GPU_MAX_POOLS, most=True),
    *pools("average pool", AVERAGE_POOLS, {}, most=False),
    # where x does not fit into the cache it is read twice
    NORM.forward("batch norm, forward", "batch_norm", NORMS, GPU_NORMS, moved(2), **HALF),
    NORM.backward("batch norm, backward", "batch_norm", NORMS, GPU_NORMS, moved(3), **HALF),
    RELU.forward("ReLU, forward", "relu", IMAGES, GPU_IMAGES, moved(2), **PLAIN, **HALF),
    RELU.backward("ReLU, backward", "relu", IMAGES, GPU_IMAGES, moved(2, 1), **PLAIN, **HALF),
    DENSE.forward("dense, forward", "dense", MATRICES, GPU_MATRICES, dense_cost(1), **PLAIN),
    DENSE.backward("dense, all gradients", "dense", MATRICES, GPU_MATRICES, dense_cost(2), **PLAIN),
    Op(
        *("softmax cross-entropy, both", "softmax_cross_entropy", LOSSES, GPU_LOSSES),
        lambda s: [Input("rows", (s.batch, s.outputs)), Input("labels", (s.batch,), s.outputs)],
        *(our_loss, torch_loss, lambda s: ["rows"]),
        lambda s, act: Cost(0, 2 * act * s.batch * s.outputs),
        **PLAIN,
        **HALF,
    ),
    Op(
        *("Adam", "adam", NETWORKS, GPU_NETWORKS),
        lambda s: [Input("vector", shape) for shape in s.shapes * 2],
        *(our_adam, torch_adam, lambda s: ["vector"] * len(s.shapes)),
        lambda s, act: Cost(0, 7 * FLOAT * size(*s.shapes)),  # w, m, v, g in; w, m, v out
        ways=("default", "fused"),
        precisions=("fp32",),
        calls=3,
    ),
)
