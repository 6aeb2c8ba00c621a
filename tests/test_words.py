"""Wrong arguments of every public function: one line that says what came and what is wanted.

Arguments are found by their names, so that a new layer, loss or optimiser whose arguments have the
usual names is tested without a change here.
"""

import inspect
import warnings
from copy import deepcopy

import numpy as np
import pytest

from tinynet import (
    ensemble,
    gradient_check,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    schedules,
    train,
)
from tinynet.layer import EVAL
from tinynet.layers import Dense, Sequential
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.optimizers import SGD, Adam

IMAGES = np.random.default_rng(0).standard_normal((2, 6, 6, 4))
LABELS = np.arange(4) % 2
CHANNEL = np.linspace(0.5, 2.0, 4)


def net():
    return Sequential(Dense(4, 2, rng=np.random.default_rng(0)))


# argument's name -> a right value; a function is tried if all that it needs are here
SAMPLES = {
    **dict.fromkeys(("in_features", "in_channels", "channels", "classes", "num_classes"), 4),
    **dict.fromkeys(("pool_size", "output_size", "groups", "stop", "out_features"), 2),
    **dict.fromkeys(("out_channels", "every", "epochs", "count"), 2),
    **dict.fromkeys(("learning_rate", "initial", "strength", "factor", "peak"), 0.1),
    **dict.fromkeys(("keep_prob", "beta", "alpha", "momentum", "slope"), 0.5),
    **dict.fromkeys(("gamma", "mean", "variance"), CHANNEL),
    **dict.fromkeys(("w", "g", "m", "v", "velocity"), CHANNEL),
    **dict.fromkeys(("logits", "predictions", "z"), IMAGES[0, 0, :4, :2]),
    **dict.fromkeys(("y_true", "y_pred", "y", "targets"), LABELS),
    **dict.fromkeys(("main", "path", "model", "layer"), net()),
    "x": IMAGES,
    "a": IMAGES,
    "mask": IMAGES > 0,
    "score": CHANNEL,
    "matrix": np.array([[3, 1], [1, 3]]),
    "probabilities": np.full((4, 2), 0.5),
    "kernel_size": 3,
    "start": 0,
    "epsilon": 1e-3,
    "nesterov": False,
    "monitor": "loss",
    "shape": (4, 2),
    "input_shape": (32, 32, 3),
    "rng": np.random.default_rng(0),
    "dtype": "float32",
    "schedule": schedules.Constant(0.1),
    "loss": SoftmaxCrossEntropy(),
    "optimizer": SGD(0.1),
}
# where a name means something else
OTHERWISE = {
    "conv2d_forward": {"w": np.ones((3, 3, 4, 2)), "b": CHANNEL[:2]},
    "dense_forward": {"x": IMAGES[0, 0], "w": np.ones((4, 2)), "b": CHANNEL[:2]},
    "gate_forward": {"g": np.ones((2, 4))},
    "batchnorm_forward": {"beta": CHANNEL},
    "batchnorm_frozen_forward": {"beta": CHANNEL},
    "group_norm_forward": {"beta": CHANNEL},
    "layer_norm_forward": {"beta": CHANNEL},
    "binary_cross_entropy_forward": {"targets": np.ones((4, 2))},
    "mean_squared_error_forward": {"targets": np.ones((4, 2))},
    "average_probabilities": {"probabilities": [np.full((4, 2), 0.5)] * 2},
    "majority_vote": {"labels": [LABELS] * 3},
    "area_under_curve": {"x": CHANNEL, "y": CHANNEL},
    "check_gradients": {"x": IMAGES[0, 0]},
    "check_loss": {"z": IMAGES[0, 0, :4, :2]},
}
ROOMS = (layers, losses, optimizers, schedules, metrics, initializers, ensemble, gradient_check)
ROOMS += (regularizers,)
BUILDERS = ("vgg_like", "small_resnet")  # quick ones; all builders share one door

# of a type that no argument below takes; lists and numbers may be right somewhere
WRONG_TYPES = {
    "object": object(),
    "class": Adam,
    "dict": {0: 1.0, 1: 2.0},
    "list of arrays and None": [IMAGES, None],
    "array of text": np.array(["a", "b"]),
    "array of objects": np.array([None, 1], object),
}
WRONG_VALUES = {
    "None": None,
    "'8'": "8",
    "''": "",
    "True": True,
    "-1": -1,
    "0": 0,
    "1.5": 1.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "1j": 1j,
    "[1, 2]": [1, 2],
    "[[1, 2], [3, 4]]": [[1.0, 2.0], [3.0, 4.0]],
    "array": np.arange(4),
}


def subjects():
    """Name -> (function, right arguments), of all that can be called with the samples."""
    found = {}
    for room in (*ROOMS, models):
        for name in BUILDERS if room is models else dir(room):
            function = getattr(room, name)
            ours = getattr(function, "__module__", "").startswith(room.__name__)
            if name.startswith("_") or not ours or inspect.isabstract(function):
                continue
            parameters = settings(function)
            samples = SAMPLES | OTHERWISE.get(name, {})
            needed = [p.name for p in parameters if p.default is p.empty]
            if parameters and all(n in samples for n in needed):
                found[name] = function, {n: samples[n] for n in needed}
    return found


def settings(function):
    """Parameters of a function or a class, without *args and **kwargs."""
    if not callable(function) or getattr(function, "_is_protocol", False):
        return []
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


SUBJECTS = subjects()


def tell(function, arguments):
    """None if the call works, otherwise the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            function(**deepcopy(arguments))
        except Exception as error:  # noqa: BLE001 - any error is looked at
            return error
    return None


def test_all_families_are_tried():
    names = {"Dense", "Conv2D", "conv2d_forward", "Adam", "adam_update", "L2", "SGD"}
    names |= {"Cosine", "auc", "glorot_uniform", "majority_vote", "check_gradients", "vgg_like"}
    assert names <= SUBJECTS.keys()
    assert len(SUBJECTS) > 70


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_came_and_what_is_wanted(name):
    function, right = SUBJECTS[name]
    assert tell(function, right) is None
    unclear, silent = [], []
    for parameter in settings(function):
        for text, wrong in (WRONG_TYPES | WRONG_VALUES).items():
            error = tell(function, right | {parameter.name: wrong})
            clear = isinstance(error, TypeError | ValueError) and "want" in str(error)
            if error is None and text in WRONG_TYPES:
                silent.append((parameter.name, text))
            elif error is not None and (not clear or "\n" in str(error)):
                unclear.append((parameter.name, text, repr(error)))
    assert not silent
    assert not unclear


@pytest.mark.parametrize("text", WRONG_TYPES | WRONG_VALUES)
def test_training_says_what_is_wanted(text):
    wrong = (WRONG_TYPES | WRONG_VALUES)[text]
    x, y = IMAGES[0, 0, :4].astype("float32"), LABELS
    unclear = []
    for function, right in (
        (train.evaluate, {"data": (x, y)}),
        (train.predict, {"data": x}),
        (train.fit, {"optimizer": SGD(0.1), "train": (x, y), "epochs": 1, "progress": False}),
    ):
        right |= {"model": net(), "loss": SoftmaxCrossEntropy()}
        for name in inspect.signature(function).parameters:
            if name == "callbacks" or (name == "folder" and isinstance(wrong, str)):
                continue
            error = tell(function, right | {name: wrong})
            clear = isinstance(error, TypeError | ValueError) and "want" in str(error)
            if error is not None and (not clear or "\n" in str(error)):
                unclear.append((function.__name__, name, repr(error)))
            if error is None and text in WRONG_TYPES:
                unclear.append((function.__name__, name, "accepted"))
    assert not unclear


def test_a_mode_that_is_not_one_is_refused():
    for mode in (True, "train", None):
        with pytest.raises(TypeError, match=r"mode is .*, want a Mode"):
            net().forward(IMAGES[0, 0].astype("float32"), mode)
    assert net().forward(IMAGES[0, 0].astype("float32"), EVAL)[0].shape == (6, 2)
