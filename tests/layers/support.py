"""What the layers' tests share: settings, read-only arrays, torch's side of a comparison."""

import numpy as np
from hypothesis import settings

drawn = settings(max_examples=200)  # against torch: at least 200 geometries
drawn_some = settings(max_examples=50)  # against loops
drawn_few = settings(max_examples=30)  # gradient checks, which run many passes each

TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


def normal(seed, *shapes, strided=False):
    """Standard normal float64 arrays, read-only: a function that writes to one is caught.

    strided   True: with gaps in memory
    """
    rng = np.random.default_rng(seed)
    return [frozen(rng.standard_normal(shape), strided) for shape in shapes]


def frozen(array, strided=False):
    """``array``, or a copy with gaps in memory, read-only."""
    if strided:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    array.flags.writeable = False
    return array


def assert_close(got, wanted):
    """Equal to 1e-9, with the same shape and dtype."""
    wanted = np.asarray(wanted)
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, **TOLERANCE)


def torch_pass(torch, function, dy, *arrays):
    """[y, gradient of each array, or None] of a torch function, in float64."""
    tensors = [torch.tensor(np.array(a), requires_grad=True) for a in arrays]
    y = function(*tensors)
    y.backward(torch.tensor(np.array(dy)))
    return [y.detach().numpy(), *(None if t.grad is None else t.grad.numpy() for t in tensors)]


def channels_first(t):
    """(N, H, W, C) -> (N, C, H, W), torch's order."""
    return t.permute(0, 3, 1, 2)


def channels_last(t):
    """(N, C, H, W) -> (N, H, W, C), ours."""
    return t.permute(0, 2, 3, 1)


def torch_padding(geometry):
    """The padding as torch.nn.functional.pad wants it: last axis first."""
    (top, bottom), (left, right) = geometry.sides
    return left, right, top, bottom
