"""One layer of every class in ``tinynet.layers``, built from the names of its settings.

A new layer whose settings have the usual names is tested by ``test_every_layer`` and on the
stand-in for CuPy without a change here.
"""

import inspect

import numpy as np

from tinynet import layers
from tinynet.layer import Layer
from tinynet.layers import Dense, GlobalAvgPool2D, Sequential, Sigmoid

IMAGES = (3, 6, 5, 4)

SETTINGS = {
    **dict.fromkeys(("in_features", "in_channels", "channels"), 4),
    **dict.fromkeys(("out_features", "out_channels"), 3),
    **dict.fromkeys(("pool_size", "groups", "axis"), 2),
    **{"kernel_size": 3, "keep_prob": 0.5, "start": 1, "stop": 3, "factor": 0.3},
    "output_size": (3, 2),
}


def layer_classes() -> dict[str, type[Layer]]:
    """Name -> class, of all layers that ``tinynet.layers`` offers."""
    return {
        name: kind
        for name, kind in sorted(vars(layers).items())
        if inspect.isclass(kind) and issubclass(kind, Layer) and kind.__module__ != "tinynet.layer"
    }


def example(kind: type[Layer], dtype: str = "float64") -> Layer:
    """A layer of this class; KeyError, with its name, for a required setting without a value."""
    rng = np.random.default_rng(0)
    dense = Dense(4, 4, rng=rng)
    given = SETTINGS | {
        "rng": rng,
        "path": Sequential(GlobalAvgPool2D(), dense, Sigmoid()),
        "main": layers.Conv2D(4, 4, 1, rng=rng),
        "branches": (layers.ReLU(), layers.Conv2D(4, 2, 1, rng=rng)),
        "layers": (layers.BatchNorm(4), layers.ReLU()),
    }
    positional, named = [], {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += given[name]
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            named[name] = given[name]
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            positional.append(given[name])
    return kind(*positional, **named).to(dtype=dtype)


EXAMPLES = {
    name: (lambda kind=kind: example(kind), IMAGES) for name, kind in layer_classes().items()
}
