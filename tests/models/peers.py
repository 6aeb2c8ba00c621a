"""What the tests of networks share: builders, numbers, and comparison with another library's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracles import from_torch, to_torch, torch_arrays, torch_gradients, torch_or_skip
from tinynet.interop.convert import converted
from tinynet.interop.names import WeightNames
from tinynet.layer import EVAL, Mode, Shape
from tinynet.models.architecture import ARCHITECTURES

TRAIN = Mode(train=True, rng=np.random.default_rng(1))
LARGEST = 1e-8  # of a difference, as a part of the largest element
ROUNDING = 1e-12  # of a gradient that is 0 in truth, as a part of the largest of all gradients


def build(name: str, classes: int, shape: Shape, *more: Any, **settings: Any) -> Any:
    """A network with random weights from a fixed seed."""
    return ARCHITECTURES[name](classes, shape, *more, rng=np.random.default_rng(0), **settings)


def images(shape: Shape, count: int = 2) -> np.ndarray:
    """Random images, in float64, without ties for a maximum."""
    return np.random.default_rng(1).standard_normal((count, *shape))


def learned(model: Any) -> int:
    """Number of learned parameters."""
    return sum(p.value.size for p in model.parameters().values())


def kept(model: Any) -> int:
    """The same and moving statistics, which is what Keras counts."""
    return sum(x.size for x in model.state().values())


def stages(model: Any, shape: Shape) -> dict[str, Shape]:
    """Stage of the base -> the shape of its output."""
    shapes = {}
    for name, layer in model.base.children().items():
        shape = shapes[name] = layer.output_shape(shape)
    return shapes


def layers_of(model: Any, kind: Any) -> dict[str, Any]:
    """Path -> layer, of one type."""
    return {name: x for name, x in model.named_layers().items() if isinstance(x, kind)}


def stirred(model: Any, low: float = -0.5, high: float = 0.5) -> Any:
    """The model with random scales, shifts and statistics: as they start, zeros lie at kinks."""
    rng = np.random.default_rng(3)
    for name, x in model.state().items():
        kind = name.rsplit(".", 1)[-1]
        if kind in ("gamma", "running_var"):
            x[...] = rng.uniform(0.7, 1.3, x.shape)
        elif kind in ("beta", "bias", "running_mean"):
            x[...] = rng.uniform(low, high, x.shape)
    return model


def assert_close(
    ours: np.ndarray, theirs: np.ndarray, name: str = "", rounding: float = 0.0
) -> None:
    """Equal but for a part in 10⁸ of the largest element, and ``rounding``."""
    assert ours.shape == theirs.shape, name
    assert abs(ours - theirs).max() <= LARGEST * abs(theirs).max() + rounding, name


def assert_equals_torchs(ours: Any, theirs: Any, names: WeightNames, shape: Shape) -> None:
    """With the weights of ``theirs``: logits, and in training logits and gradients.

    Upstream there is a random gradient of each output; nothing is dropped.
    """
    torch = torch_or_skip()
    arrays = torch_arrays(theirs)
    ours.to(dtype="float64").load_state(converted(ours, arrays, names, shape))
    ours.freeze(parameters=False, statistics=False)
    for module in theirs.modules():
        if "dropout" in type(module).__name__.lower():
            module.p = 0.0
    x = images(shape)
    with torch.no_grad():
        want = theirs.eval()(to_torch(x)).numpy()
    y, _ = ours.forward(x, EVAL)
    assert_close(y, want)
    # what of them depends on the image, which may be a small part
    assert_close(y[1:] - y[0], want[1:] - want[0], rounding=1e-14 * abs(want).max())

    t_x = to_torch(x)
    outputs = theirs.train()(t_x)
    if hasattr(outputs, "aux_logits1"):
        outputs = outputs.logits, outputs.aux_logits1, outputs.aux_logits2
    t_y = outputs if isinstance(outputs, tuple) else (outputs,)
    upstream = np.random.default_rng(2).standard_normal((len(t_y), *t_y[0].shape))
    torch.autograd.backward(t_y, list(torch.from_numpy(upstream)))

    ours.zero_grad()
    y, cache = ours.forward(x, TRAIN)
    dx = ours.backward(tuple(upstream) if isinstance(y, tuple) else upstream[0], cache)
    for z, wanted in zip(y if isinstance(y, tuple) else (y,), t_y, strict=True):
        assert_close(z, wanted.detach().numpy(), "logits")
    assert_close(dx, from_torch(t_x.grad), "images")
    gradients = converted(ours, arrays | torch_gradients(theirs), names, shape)
    assert_gradients_close(ours, gradients)


def assert_gradients_close(ours: Any, gradients: dict[str, np.ndarray]) -> None:
    """A shift that a later batch norm takes out again has no gradient but rounding."""
    parameters = ours.parameters()
    rounding = ROUNDING * max(abs(gradients[name]).max() for name in parameters)
    for name, p in parameters.items():
        assert_close(p.grad, gradients[name], name, rounding)
