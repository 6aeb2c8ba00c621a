"""Where in an image a network finds what speaks for a class: a heat map over the radiograph.

The heat comes from the network's last layer with places, whose cells are far larger than a pixel:
it shows a region, not an outline. Each place is weighed by its own slope (HiResCAM), since the head
of the VGG-like network flattens; ``average`` gives Grad-CAM, which weighs all places alike.
Sources: Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM"; Selvaraju et al. 2017,
"Grad-CAM".
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from examples.mura.augment import normalise
from examples.mura.dataset import EXPLAINED
from examples.mura.decode import BadImage, Fit, place
from examples.mura.errors import UserError
from examples.mura.figures import STYLE, row_of_images, save, sign
from examples.mura.model import CLASSES
from examples.mura.output import shown
from examples.mura.predict import Notes, decoded, find_images, refuse_none
from examples.mura.printed import number
from examples.mura.radiographs import InputForm, Radiographs, picture, radiograph
from examples.mura.settings import Settings
from tinynet.backend import to_device
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.train.checkpoint import CheckpointError, write_whole
from tinynet.train.evaluation import device_of, predict
from tinynet.visualize import grad_cam, overlaid
from tinynet.visualize.cam import enlarged

AT_ONCE = 16
INCHES = 7.2  # width of a picture, to the size of its letters
ACROSS = 4  # images in a row of the sheet


@dataclass(frozen=True)
class Explained:
    """One image, the picture written for it, and its probability of being abnormal."""

    file: Path
    picture: Path
    probability: float


def explain_files(
    model: Any,
    files: Iterable[str | os.PathLike[str]],
    settings: Settings,
    *,
    out: Path | None = None,
    label: str = "abnormal",
    layer: str | None = None,
    average: bool = False,
    synthetic: bool,
    notes: Notes | None = None,
) -> list[Explained]:
    """Write a picture for each image: the image, and over it where ``label`` is seen.

    files       images, or folders that are searched for them; pictures made here are passed over
    settings    of the model's run: how its images are prepared
    out         folder for the pictures, in which the images' folders are kept apart; None: each
                picture is written beside its image
    label       the class whose logit is explained
    layer       dotted name of another layer of the model
    average     Grad-CAM's mean slopes instead of each place's own
    synthetic   whether the model was trained on synthetic radiographs
    notes       files that are missing or not images, and what was passed over, are added to it
    Raises UserError if there is no image, naming what is wrong with the first, and for an unknown
    layer.
    """
    notes = notes or Notes()
    given = find_images(files, notes)
    found = [path for path in given if not path.name.endswith(EXPLAINED)]
    notes.warnings += [f"passed over {p}, which explain made" for p in given if p not in found]
    if not found:
        raise UserError("only pictures that explain images were given: name the images themselves")
    pictures = dict(zip(found, picture_paths(found, out), strict=True))
    explained: list[Explained] = []
    for start in range(0, len(found), AT_ONCE):
        good, pixels = decoded(found[start : start + AT_ONCE], settings, notes)
        if not good:
            continue
        probability, heat = heat_maps(model, pixels, settings.form, label, layer, average)
        for i, p in enumerate(probability.tolist()):
            file, target = good[i], pictures[good[i]]
            try:
                image = radiograph(file)
                seen = spread(heat[i], image, settings.fit)
                drawn = one_image(image, seen, shown(file.name), p, label, synthetic)
                write_whole(target, drawn)
            except (CheckpointError, BadImage) as error:
                notes.bad.append(f"{file} {error}" if isinstance(error, BadImage) else str(error))
            else:
                explained.append(Explained(file, target, p))
    refuse_none([one.file for one in explained], notes)
    return explained


def picture_paths(files: Sequence[Path], out: Path | None) -> list[Path]:
    stems = Counter(path.with_suffix("") for path in files)
    names = [  # of two that differ in their suffix alone, each keeps its own
        (path.stem if stems[path.with_suffix("")] == 1 else path.name) + EXPLAINED for path in files
    ]
    if out is None:
        return [path.with_name(name) for path, name in zip(files, names, strict=True)]
    whole = [path.parent.resolve() / path.name for path in files]
    common = Path(os.path.commonpath([path.parent for path in whole]))
    places = [out / path.parent.relative_to(common) for path in whole]
    return [place / name for place, name in zip(places, names, strict=True)]


def heat_maps(
    model: Any,
    pixels: NDArray[np.uint8],
    form: InputForm,
    label: str,
    layer: str | None = None,
    average: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Probability of abnormal (n,), and heat (n, side, side), of images (n, side, side)."""
    x = form(normalise(pixels))
    there = to_device(x, device_of(model))
    names = [name for name in model.named_layers() if name]
    if layer is not None and layer not in names:
        base = [name for name in names if name.startswith("base.")] or names
        raise UserError(
            f"--layer {layer}: the network has no such layer, its base has {base[0]} to {base[-1]}"
        )
    try:
        heat = grad_cam(model, there, CLASSES.index(label), layer, average=average)
    except ValueError as error:
        raise UserError(
            f"--layer {layer or '(default)'}: {str(error).removeprefix('grad_cam: ')}"
        ) from error
    probability = predict(model, SoftmaxCrossEntropy(), x)[:, 1]
    return probability.astype(np.float64), to_device(heat, "numpy")


def spread(heat: NDArray[np.floating], image: NDArray[np.uint8], fit: Fit) -> NDArray[np.floating]:
    """The heat (side, side) of a network's input over the image (H, W) that it was made from."""
    height, width = image.shape
    left, top, right, bottom = place((width, height), len(heat), fit)
    inside = heat[top:bottom, left:right]
    return enlarged(inside[None], (height, width))[0]


def one_image(
    image: NDArray[np.uint8],
    heat: NDArray[np.floating],
    name: str,
    p: float,
    label: str,
    synthetic: bool,
) -> bytes:
    """A PNG of the radiograph, and beside it the same with the heat over it, pixel for pixel."""
    pictures = [overlaid(image, h) for h in (np.zeros_like(heat), heat)]
    height, width = pictures[0].shape[:2]
    gap = max(width, 360) // 20
    step = max(width, 360) + gap
    total = 2 * step + gap
    dpi = total / INCHES
    foot = round(0.45 * dpi)
    whole = height + 2 * foot
    seen = f"bright: speaks for {label}" if heat.max() > 0 else f"nothing here speaks for {label}"
    if len(name) > 34:
        name = "…" + name[-33:]
    places = [gap / total, (gap + step) / total]
    above, below = 1 - 0.75 * foot / whole, 0.6 * foot / whole
    with rc_context(STYLE):
        figure = Figure(figsize=(INCHES, whole / dpi), dpi=dpi)
        figure.text(places[0], above, name, fontsize=10, parse_math=False)
        title = f"probability of abnormal {number(p)}"
        figure.text(places[1], above, title, fontsize=10, fontweight="bold")
        figure.text(places[1], below, seen, fontsize=9)
        sign(figure, synthetic, y=0.1 * foot / whole)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    page = np.array(canvas.buffer_rgba())[..., :3]
    for k, drawn in enumerate(pictures):
        left = gap + k * step
        page[foot : foot + height, left : left + width] = drawn
    png = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(page)).save(png, "PNG")
    return png.getvalue()


def write_sheet(
    folder: Path,
    model: Any,
    data: Radiographs,
    probability: NDArray[np.floating],
    root: Path | None = None,
) -> Path:
    """Draw ``explained_sheet`` of the evaluated images into ``folder/figures``."""
    with rc_context(STYLE):
        figure = explained_sheet(model, data, probability, root)
        return save(figure, folder / "figures" / "explained.png", data.prepared.synthetic)


def explained_sheet(
    model: Any, data: Radiographs, probability: NDArray[np.floating], root: Path | None = None
) -> Figure:
    """The images found most surely abnormal, and what speaks for it: right calls above wrong ones.

    probability   (n,) of each image of ``data`` being abnormal
    root          MURA-v1.1, whose radiographs are shown; without them, the network's input
    """
    labels = data.labels
    order = np.argsort(-np.asarray(probability), kind="stable")
    groups = [
        ("Abnormal, and most surely called so", order[labels[order] == 1][:ACROSS]),
        ("Normal, and most surely taken for abnormal", order[labels[order] == 0][:ACROSS]),
    ]
    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    parts = figure.subfigures(len(groups), 1, squeeze=False)[:, 0]
    for part, (heading, chosen) in zip(parts, groups, strict=True):
        squares = data.pixels(chosen)
        heat = heat_maps(model, squares, data.form, "abnormal")[1] if len(chosen) else squares
        for k, ax in enumerate(row_of_images(part, heading, len(chosen), ACROSS)):
            image = picture(data, chosen[k], root)
            seen = spread(heat[k], image, data.prepared.fit)
            ax.imshow(overlaid(image, seen))
            ax.spines[:].set_visible(False)
            ax.set_title(f"p = {number(probability[chosen[k]])}", fontsize=9)
    return figure
