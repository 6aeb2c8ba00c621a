"""What images have to look like for weights from elsewhere."""

from __future__ import annotations

from typing import Any

from tinynet.backend import Array, array_module

# kind    -> (scale, mean, standard deviation, whether the channels are reversed), of R, G, B
# "caffe"'s mean is that of B, G, R: the channels are reversed first
KINDS: dict[str, tuple[float, tuple[float, ...], tuple[float, ...], bool]] = {
    "torch": (1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), False),
    "caffe": (1.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0), True),
    "tf": (1 / 127.5, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), False),
}


def imagenet_preprocess(images: Array, kind: str = "torch", dtype: Any = "float32") -> Array:
    """Images as the networks that were trained on ImageNet saw them.

        torch   y = (x / 255 − μ) / σ,   μ = (0.485, 0.456, 0.406), σ = (0.229, 0.224, 0.225)
        caffe   y = x in the order B, G, R − (103.939, 116.779, 123.68)
        tf      y = x / 127.5 − 1

    images   (N, H, W, C) or (H, W, C), values 0 to 255; C is 3 (R, G, B), or 1: greyscale, which
             becomes three equal channels
    kind     "torch", "caffe" or "tf"; docs/weights.md says which weights want which
    dtype    of the result, as the network's
    Returns an array of the same sizes with 3 channels.  Raises ValueError for another kind, another
    number of channels, or values that are plainly not 0 to 255.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, want one of {', '.join(map(repr, KINDS))}")
    if images.ndim not in (3, 4) or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images are {images.shape}, want (N, H, W, 3) or (H, W, 3), or 1 for greyscale"
        )
    xp = array_module(images)
    if images.size and (float(images.min()) < 0 or float(images.max()) > 255):
        raise ValueError(
            f"images have values from {float(images.min()):.3g} to {float(images.max()):.3g}, "
            "want 0 to 255: give them before any other scaling"
        )
    scale, mean, deviation, reverse = KINDS[kind]
    x = images.astype(dtype)
    x = xp.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x
    x = x[..., ::-1] if reverse else x
    return (x * x.dtype.type(scale) - xp.asarray(mean, x.dtype)) / xp.asarray(deviation, x.dtype)
