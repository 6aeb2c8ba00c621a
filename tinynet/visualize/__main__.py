"""Draw the pictures of docs/visualize.md: ``python -m tinynet.visualize docs/visualize``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tinynet.initializers import he_normal
from tinynet.layer import Layer
from tinynet.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Sequential,
    Sigmoid,
)  # fmt: skip
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.models import googlenet, resnet50
from tinynet.optimizers import SGD, Adam
from tinynet.train import fit
from tinynet.visualize.cam import grad_cam
from tinynet.visualize.draw import draw
from tinynet.visualize.feature_maps import feature_maps, mosaic, overlaid
from tinynet.visualize.figures import matplotlib
from tinynet.visualize.shapes import SIZE, shapes
from tinynet.visualize.trace import TraceCallback, backward_trace

LOSS = SoftmaxCrossEntropy()


def small_cnn(rng: np.random.Generator) -> Sequential:
    """(32, 32, 1) -> 2 logits: three convolutions, batch norm, a global average."""

    def conv(channels: int, filters: int) -> Conv2D:
        return Conv2D(
            channels, filters, 3, padding="same", bias=False, rng=rng, initializer=he_normal
        )

    return Sequential(
        conv1=conv(1, 8), bn1=BatchNorm(8, momentum=0.9), relu1=ReLU(), pool1=MaxPool2D(2),
        conv2=conv(8, 16), bn2=BatchNorm(16, momentum=0.9), relu2=ReLU(), pool2=MaxPool2D(2),
        conv3=conv(16, 16), bn3=BatchNorm(16, momentum=0.9), relu3=ReLU(),
        average=GlobalAvgPool2D(), classes=Dense(16, 2, rng=rng),
    )  # fmt: skip


def sigmoids(depth: int, rng: np.random.Generator) -> Sequential:
    """(32, 32, 1) -> 2 logits: a chain of convolutions with sigmoids, whose gradient vanishes."""
    layers: dict[str, Layer] = {}
    for k in range(1, depth + 1):
        layers[f"conv{k}"] = Conv2D(8 if layers else 1, 8, 3, padding="same", rng=rng)
        layers[f"sigmoid{k}"] = Sigmoid()
    return Sequential(**layers, average=GlobalAvgPool2D(), classes=Dense(8, 2, rng=rng))


def main(folder: Path) -> None:
    """Draw every picture into ``folder``, and print what the page quotes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    draw(resnet50(1000, (224, 224, 3), rng=rng), folder / "resnet50.svg")
    draw(googlenet(1000, (224, 224, 3), rng=rng), folder / "googlenet.svg")

    x, y, _ = shapes(800, rng=rng)
    trace = backward_trace(sigmoids(12, rng), LOSS, x[:32], y[:32], optimizer=SGD(0.1))
    trace.plot(folder / "trace.png")
    print(trace)

    model, optimizer = small_cnn(rng), Adam(3e-3)
    traces = TraceCallback(LOSS, x[:64], y[:64], optimizer=optimizer)
    history = fit(model, LOSS, optimizer, (x, y), epochs=12, callbacks=[traces], progress=False)
    traces.plot(folder / "run.png", "update_ratio")
    print(f"training accuracy {history[-1]['train_accuracy']:.2f}")

    x, y, corners = shapes(100, rng=rng)
    heat = grad_cam(model, x, y)
    brightest = heat.reshape(len(heat), -1).argmax(axis=1)
    places = np.stack(np.unravel_index(brightest, heat.shape[1:]), axis=1)
    hits = ((places >= corners) & (places < corners + SIZE)).all(axis=1)
    print(f"{hits.mean():.0%} of the heats' brightest places lie on the shape")
    images = [overlaid(x[i, ..., 0], 0 * heat[i]) for i in range(6)]
    images += [overlaid(x[i, ..., 0], heat[i]) for i in range(6)]
    tiles = mosaic([image[::2, ::2] / 255 for image in images], 1.0, across=6)
    matplotlib("image").imsave(folder / "cam.png", tiles)
    feature_maps(model, x[1], "relu2", folder / "maps.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/visualize"))
