"""The comparison with another library's network, which is the same for every architecture."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracles import from_torch, to_torch, torch_arrays, torch_gradients, torch_or_skip
from tinynet.interop.convert import converted
from tinynet.interop.names import WeightNames
from tinynet.layer import Mode, Shape

LARGEST = 1e-8  # of a difference, as a part of the largest element
ROUNDING = 1e-12  # of a gradient that is 0 in truth, as a part of the largest of all gradients


def images(shape: Shape, count: int = 2) -> np.ndarray:
    """Random images, in float64, without ties for a maximum."""
    return np.random.default_rng(1).standard_normal((count, *shape))


def assert_close(
    ours: np.ndarray, theirs: np.ndarray, name: str = "", rounding: float = 0.0
) -> None:
    """Equal but for a part in 10⁸ of the largest element, and ``rounding``."""
    assert ours.shape == theirs.shape, name
    assert abs(ours - theirs).max() <= LARGEST * abs(theirs).max() + rounding, name


def assert_logits_equal_torchs(ours: Any, theirs: Any, names: WeightNames, shape: Shape) -> None:
    """Outside training, with the weights and statistics of ``theirs``."""
    torch = torch_or_skip()
    ours.load_state(converted(ours, torch_arrays(theirs), names, shape))
    x = images(shape)
    with torch.no_grad():
        want = theirs.eval()(to_torch(x)).numpy()
    y, _ = ours.forward(x)
    assert_close(y, want)
    # what of them depends on the image, which may be a small part
    assert_close(y[1:] - y[0], want[1:] - want[0], rounding=1e-14 * abs(want).max())


def assert_gradients_equal_torchs(ours: Any, theirs: Any, names: WeightNames, shape: Shape) -> None:
    """In training, from a random gradient of the logits; dropout is frozen in ``ours``.

    A shift that a later batch norm takes out again has no gradient but rounding.
    """
    torch = torch_or_skip()
    before = torch_arrays(theirs)
    ours.load_state(converted(ours, before, names, shape))
    ours.freeze(parameters=False, statistics=False)
    ours.zero_grad()
    x = images(shape)
    t_x = to_torch(x)
    t_y = theirs.train()(t_x)
    dy = np.random.default_rng(2).standard_normal(t_y.shape)
    t_y.backward(torch.from_numpy(dy))

    y, cache = ours.forward(x, Mode(train=True))
    dx = ours.backward(dy, cache)
    assert_close(y, t_y.detach().numpy(), "logits")
    assert_close(dx, from_torch(t_x.grad), "images")
    gradients = converted(ours, before | torch_gradients(theirs), names, shape)
    parameters = ours.parameters()
    rounding = ROUNDING * max(abs(gradients[name]).max() for name in parameters)
    for name, p in parameters.items():
        assert_close(p.grad, gradients[name], name, rounding)


def learned(model: Any) -> int:
    """Number of learned parameters."""
    return sum(p.value.size for p in model.parameters().values())


def kept(model: Any) -> int:
    """The same and moving statistics, which is what Keras counts."""
    return sum(x.size for x in model.state().values())


def stirred(model: Any) -> Any:
    """The model with random scales, shifts and statistics: as they start, zeros lie at kinks."""
    rng = np.random.default_rng(3)
    for name, x in model.state().items():
        kind = name.rsplit(".", 1)[-1]
        if kind in ("gamma", "running_var"):
            x[...] = rng.uniform(0.7, 1.3, x.shape)
        elif kind in ("beta", "bias", "running_mean"):
            x[...] = rng.uniform(-0.5, 0.5, x.shape)
    return model
