"""Where in an image a network finds what speaks for a class: a heat map over the radiograph.

The heat comes from the network's last layer with places, whose cells are far larger than a pixel:
it shows a region, not an outline. Each place is weighed by its own slope (HiResCAM), since the head
of the VGG-like network flattens; ``average`` gives Grad-CAM, which weighs all places alike.
Sources: Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM"; Selvaraju et al. 2017,
"Grad-CAM".
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from examples.mura.augment import normalise
from examples.mura.dataset import EXPLAINED
from examples.mura.errors import UserError
from examples.mura.figures import STYLE, row_of_images, save
from examples.mura.model import CLASSES
from examples.mura.output import shown
from examples.mura.predict import Notes, decoded, find_images, refuse_none
from examples.mura.radiographs import InputForm, Radiographs
from examples.mura.settings import Settings
from tinynet.backend import to_device
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.train.checkpoint import CheckpointError
from tinynet.train.evaluation import device_of, predict
from tinynet.visualize import grad_cam, overlaid

AT_ONCE = 16
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
            file, picture = good[i], pictures[good[i]]
            try:
                with rc_context(STYLE):
                    figure = one_image(pixels[i], heat[i], shown(file.name), p, label)
                    save(figure, picture, synthetic)
            except CheckpointError as error:
                notes.bad.append(str(error))
            else:
                explained.append(Explained(file, picture, p))
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
    try:
        heat = grad_cam(model, there, CLASSES.index(label), layer, average=average)
    except ValueError as error:
        raise UserError(str(error)) from error
    probability = predict(model, SoftmaxCrossEntropy(), x)[:, 1]
    return probability.astype(np.float64), to_device(heat, "numpy")


def one_image(
    pixels: NDArray[np.uint8], heat: NDArray[np.floating], name: str, p: float, label: str
) -> Figure:
    """The network's input, and beside it the same with the heat over it."""
    figure = Figure(figsize=(7.2, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    show(left, pixels, None)
    show(right, pixels, heat)
    left.set_title(
        name if len(name) <= 34 else "…" + name[-33:], loc="left", fontsize=10, parse_math=False
    )
    right.set_title(f"probability of abnormal {p:.2f}", loc="left", fontsize=10, fontweight="bold")
    seen = f"bright: speaks for {label}" if heat.max() > 0 else f"nothing here speaks for {label}"
    right.set_xlabel(seen, fontsize=9)
    return figure


def write_sheet(
    run_folder: Path, model: Any, data: Radiographs, probability: NDArray[np.floating]
) -> Path:
    """Draw ``explained_sheet`` of the evaluated images into ``run_folder/figures``."""
    with rc_context(STYLE):
        figure = explained_sheet(model, data, probability)
        return save(figure, run_folder / "figures" / "explained.png", data.prepared.synthetic)


def explained_sheet(model: Any, data: Radiographs, probability: NDArray[np.floating]) -> Figure:
    """The images found most surely abnormal, and what speaks for it: right calls above wrong ones.

    probability   (n,) of each image of ``data`` being abnormal
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
        images = data.pixels(chosen)
        heat = heat_maps(model, images, data.form, "abnormal")[1] if len(chosen) else images
        for k, ax in enumerate(row_of_images(part, heading, len(chosen), ACROSS)):
            show(ax, images[k], heat[k])
            ax.set_title(f"p = {probability[chosen[k]]:.2f}", fontsize=9)
    return figure


def show(ax: Axes, pixels: NDArray[np.uint8], heat: NDArray[np.floating] | None) -> None:
    plain = np.repeat(pixels[..., None], 3, axis=-1)
    ax.imshow(plain if heat is None else overlaid(pixels, heat), interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
