"""Which places of an image speak for a class: Grad-CAM and HiResCAM, by the backward pass.

Source: Selvaraju, Cogswell, Das, Vedantam, Parikh & Batra 2017, "Grad-CAM: visual explanations
from deep networks via gradient-based localization".  See report §2.5.4, §2.3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinynet.backend import Array, array_module
from tinynet.layer import Layer, Shape, join
from tinynet.visualize.observe import activation_and_gradient


def grad_cam(
    model: Layer,
    x: Array,
    class_index: int | Sequence[int] | Array | None = None,
    layer_name: str | None = None,
    *,
    average: bool = True,
) -> Array:
    """Return a heat map for each image: how much each place speaks for a class.

        α[n, k] = (1 / hw) Σ_ij ∂z[n, c] / ∂A[n, i, j, k]
        heat[n] = max{0, Σ_k α[n, k] A[n, :, :, k]},   enlarged from (h, w) to (H, W)

    x             (N, H, W, C)   images
    class_index   the class c whose logit z[n, c] is explained: one for all images or one for each;
                  by default the class that the model finds most probable
    layer_name    the layer whose output A (N, h, w, K) is weighed, its dotted name; by default the
                  last of the base whose output has places, pooling at its end aside
    average       True: Grad-CAM as above. False: HiResCAM, each place with its own slope,
                  heat[n] = max{0, Σ_k ∂z[n, c]/∂A[n, :, :, k] ⊙ A[n, :, :, k]}. After a global
                  average pool the two agree; a head that flattens has other weights for each
                  place, which the mean α mixes up (Draelos & Carin 2020, "Use HiResCAM instead of
                  Grad-CAM for faithful explanations of convolutional neural networks")
    The network is run in evaluation mode and not changed. Maps are enlarged bilinearly, about the
    cells' centres. The scale is that of the logit: divide by the maximum to show it.
    Returns heat (N, H, W), 0 or more.
    Raises ValueError for an unknown class or layer, or a layer whose output has no places.
    """
    if x.ndim != 4:
        raise ValueError(f"grad_cam: x is {tuple(x.shape)}, want images (N, H, W, C)")
    name = last_spatial(model, x.shape[1:]) if layer_name is None else layer_name

    def one_logit(z: Array) -> Array:
        return _chosen(z, class_index)

    a, da = activation_and_gradient(model, x, name, one_logit)
    if a.ndim != 4:
        raise ValueError(
            f"grad_cam: the output of layer {name!r} is {tuple(a.shape)}, want (N, h, w, K): name "
            "a layer before the places are averaged or flattened"
        )
    alpha = da.mean(axis=(1, 2), keepdims=True) if average else da
    heat = array_module(x).maximum((a * alpha).sum(axis=-1), 0)
    return enlarged(heat, x.shape[1:3])


def _chosen(z: Array, class_index: int | Sequence[int] | Array | None) -> Array:
    """∂z[n, c]/∂z, (N, K): 1 at each image's class c and 0 elsewhere."""
    xp = array_module(z)
    if z.ndim != 2:
        raise ValueError(f"grad_cam: the model's output is {tuple(z.shape)}, want logits (N, K)")
    examples, classes = z.shape
    chosen = z.argmax(axis=1) if class_index is None else xp.asarray(class_index)
    if chosen.dtype.kind not in "iu" or chosen.shape not in ((), (examples,)):
        raise ValueError(
            f"grad_cam: class_index is {class_index!r}, want a whole number, or one for each of "
            f"the {examples} images"
        )
    if examples and (chosen.min() < 0 or chosen.max() >= classes):
        raise ValueError(
            f"grad_cam: class_index is {class_index!r}, want 0 to {classes - 1}: the model has "
            f"{classes} classes"
        )
    return (xp.broadcast_to(chosen, (examples,))[:, None] == xp.arange(classes)).astype(z.dtype)


def enlarged(maps: Array, size: tuple[int, int]) -> Array:
    """Return maps (N, h, w) at another size (H, W), interpolated linearly along both axes.

    y[n] = R_H x[n] R_Wᵀ
    """
    xp = array_module(maps)
    rows, columns = (
        xp.asarray(interpolation(after, before), dtype=maps.dtype)
        for after, before in zip(size, maps.shape[1:], strict=True)
    )
    return rows @ maps @ columns.T


def interpolation(after: int, before: int) -> np.ndarray:
    """Return R (after, before): each row has the weights of a place between two cells' centres.

    Cell i of ``before`` has its centre at (i + ½) / before of the whole; beyond the outermost
    centres the outermost cell's value holds.
    """
    place = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    low = np.minimum(np.floor(place).astype(int), max(before - 2, 0))
    weight = place - low
    matrix = np.zeros((after, before))
    matrix[np.arange(after), low] = 1 - weight
    matrix[np.arange(after), np.minimum(low + 1, before - 1)] += weight
    return matrix


def last_spatial(model: Layer, input_shape: Shape) -> str:
    """Return the dotted name of the last layer whose output has places: height or width from 2.

    In a network with a ``base`` it is looked for there. A block counts as one layer; pooling at
    the end is passed over, since there are fewer places after it than before it.
    Raises ValueError if there is none.
    """
    base = model.children().get("base")
    name = _search(model if base is None else base, tuple(input_shape), "base" if base else "")
    if name is None:
        raise ValueError(
            f"no layer of {type(model).__name__} has an output with places for an input of "
            f"{tuple(input_shape)}: give a larger image, or layer_name"
        )
    return name


def _has_places(shape: Shape) -> bool:
    return len(shape) == 3 and max(shape[:2]) > 1


def _search(layer: Layer, shape: Shape, prefix: str) -> str | None:
    last: str | None = None
    if layer.promise("wiring") == "series":
        for name, child in layer.children().items():
            after = tuple(child.output_shape(shape))
            if _has_places(after):
                last = last if child.kind == "pooling" and last else join(prefix, name)
            elif child.children():
                last = _search(child, shape, join(prefix, name)) or last
            shape = after
        return last
    if prefix and _has_places(tuple(layer.output_shape(shape))):
        return prefix
    for name, leaf, inner in layer.walk(shape, prefix):
        last = name if _has_places(tuple(leaf.output_shape(inner))) else last
    return last
