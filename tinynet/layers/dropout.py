"""Dropout: train with neurons removed at random.  Report §2.4.1."""

from __future__ import annotations

from typing import NamedTuple

from tinynet.backend import Array, Output, backward_of, library_of, swappable, to_device
from tinynet.layer import EVAL, Mode, RandomSource, Shape, Stateless

__all__ = ["Dropout", "dropout_backward", "dropout_forward"]


class DropoutCache(NamedTuple):
    """Cache for ``dropout_backward``."""

    mask: Array | None  # booleans of the shape of x; None outside training
    scale: float
    shape: Shape  # of x; a mask with sizes of 1 may serve a whole batch


@swappable
def dropout_mask(x: Array, rng: RandomSource, keep_prob: float) -> Array:
    """Draw which neurons of x are retained, each with probability p.  Report §2.4.1.

        mask = u < p,   u uniform in [0, 1)

    x     any shape; of it the shape counts, and the library
    rng   whose next draws are used: NumPy's generator, so that a seed means the same mask in both
          libraries, or one that draws the same numbers on a GPU
    Returns booleans of the shape of x.
    """
    return to_device(rng.random(x.shape) < keep_prob, library_of(x))


@swappable
def dropout_forward(
    x: Array, mask: Array | None, keep_prob: float, scale_at: str = "train"
) -> tuple[Array, DropoutCache]:
    """Keep the neurons where the mask is True, remove the others.  Report §2.4.1.

        training    y = mask · x / p    scale_at="train" (the field: "inverted" dropout)
                    y = mask · x        scale_at="test" (the report and the paper)
        otherwise   y = x               scale_at="train"
                    y = p x             scale_at="test"

    In both, the mean of y over the masks in training is y outside it. The report scales the
    weights that y is multiplied by, w to p w; (p x) w = x (p w).

    x          any shape
    mask       booleans of the shape of x, True with probability p; None outside training
    keep_prob  p, in (0, 1]: the probability that a neuron is retained
    Returns y (the shape of x) and the cache (mask, scale).
    Source: Srivastava et al. 2014.
    """
    _check(keep_prob, scale_at)
    if mask is None:
        scale = keep_prob if scale_at == "test" else 1.0
        return x * scale, DropoutCache(None, scale, x.shape)
    scale = 1.0 / keep_prob if scale_at == "train" else 1.0
    return x * mask * scale, DropoutCache(mask, scale, x.shape)


@backward_of(lambda cache: Output(cache.shape))
def dropout_backward(dy: Array, cache: DropoutCache) -> Array:
    """A removed neuron has no gradient, a kept one the forward pass's scale.  Report §2.4.1.

        ∂L/∂x = mask · scale · ∂L/∂y

    dy (any shape) ∂L/∂y.  Returns dx (the shape of dy).
    """
    return dy * cache.scale if cache.mask is None else dy * cache.mask * cache.scale


class Dropout(Stateless):
    """Removes each neuron with probability 1 − keep_prob, in training only.  Report §2.4.1.

    keep_prob       probability p of being retained, in (0, 1]; Keras and PyTorch take 1 − p
    scale_at        "train" divides by p in training; "test" multiplies by p outside it
    frozen_dropout  True: behaves as outside training, whatever the mode (see Layer.freeze)
    The mask is drawn fresh from mode.rng at every training step.
    """

    kind = "dropout"
    per_image = True
    dtypes = (*Stateless.dtypes, "bfloat16")

    def __init__(self, keep_prob: float, scale_at: str = "train") -> None:
        _check(keep_prob, scale_at)
        self.keep_prob, self.scale_at = keep_prob, scale_at
        self.frozen_dropout = False

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, DropoutCache]:
        mask = None
        if mode.train and not self.frozen_dropout:
            if mode.rng is None:
                raise ValueError(
                    f"{self!r}: a mask is drawn in training, but mode.rng is None; "
                    "want Mode(train=True, rng=np.random.default_rng(seed))"
                )
            mask = dropout_mask(x, mode.rng, self.keep_prob)
        return dropout_forward(x, mask, self.keep_prob, self.scale_at)

    def backward(self, dy: Array, cache: DropoutCache) -> Array:
        return dropout_backward(dy, cache)

    def label(self) -> str:
        return f"dropout, keep {self.keep_prob:g}"

    def __repr__(self) -> str:
        return f"Dropout(keep_prob={self.keep_prob:g})"


def _check(keep_prob: float, scale_at: str) -> None:
    if not 0 < keep_prob <= 1:
        raise ValueError(f"dropout: keep_prob is {keep_prob}, want a probability in (0, 1]")
    if scale_at not in ("train", "test"):
        raise ValueError(f"dropout: scale_at is {scale_at!r}, want 'train' or 'test'")
