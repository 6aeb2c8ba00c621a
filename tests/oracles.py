"""Other libraries' networks, as oracles: random weights and statistics, outputs, gradients.

Everything here is float64 and made from a fixed seed. A missing package skips the test that asks
for it, and says which.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")


def torch_or_skip() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed")


def keras_or_skip() -> Any:
    torch_or_skip()
    return pytest.importorskip("keras", reason="keras is not installed")


def torchvision_or_skip() -> ModuleType:
    """torchvision, without its compiled operators where they do not load (there is no CPU build).

    Its networks need none of them; importing it declares them all the same, which is left out.
    """
    torch = torch_or_skip()
    declare = torch.library.register_fake

    def declare_what_is_there(op: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(op, str) and op.startswith("torchvision::"):
            return lambda function: function
        return declare(op, *args, **kwargs)

    torch.library.register_fake = declare_what_is_there
    try:
        return pytest.importorskip("torchvision", reason="torchvision is not installed")
    finally:
        torch.library.register_fake = declare


def timm_or_skip() -> ModuleType:
    torchvision_or_skip()
    return pytest.importorskip("timm", reason="timm is not installed")


def randomise(model: Any, seed: int = 0) -> Any:
    """A torch model with random statistics too, in float64 and training off; returns it.

    Weights keep the library's own random start; biases, scales and moving statistics, which start
    as zeros and ones, are drawn, so that no convention hides behind them.
    """
    torch = torch_or_skip()
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Any, low: float, high: float) -> Any:
        drawn = torch.rand(like.shape, generator=generator, dtype=torch.float64)
        return low + (high - low) * drawn

    model.double().eval()
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            kind = name.rsplit(".", 1)[-1]
            if kind == "running_var" or (kind == "weight" and x.ndim == 1):
                x.copy_(uniform(x, 0.7, 1.3))
            elif kind in ("running_mean", "bias"):
                x.copy_(uniform(x, -0.2, 0.2))
    return model


def torch_arrays(model: Any) -> dict[str, np.ndarray]:
    """Name -> array of a torch model's parameters and buffers."""
    return {name: x.detach().numpy().copy() for name, x in model.state_dict().items()}


def torch_gradients(model: Any) -> dict[str, np.ndarray]:
    """Name -> gradient of a torch model's parameters, after a backward pass."""
    return {name: p.grad.numpy().copy() for name, p in model.named_parameters()}


def to_torch(images: np.ndarray) -> Any:
    """Images (N, H, W, C) as torch has them, (N, C, H, W), ready for a gradient."""
    torch = torch_or_skip()
    x = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return torch.from_numpy(x).requires_grad_()


def from_torch(images: Any) -> np.ndarray:
    """The reverse of ``to_torch``."""
    return images.detach().numpy().transpose(0, 2, 3, 1)


def package(name: str) -> ModuleType:
    """An optional package, or a skip that names it."""
    pytest.importorskip(name.split(".")[0], reason=f"{name.split('.')[0]} is not installed")
    return importlib.import_module(name)


@contextmanager
def keras_in_float64() -> Iterator[Any]:
    """keras, building and computing in float64; as it was afterwards.

    Setting floatx is not enough: batch norm and means ask for the common type of float64 and
    float32, which Keras says is float32.
    """
    keras = keras_or_skip()
    dtypes = importlib.import_module("keras.src.backend.common.dtypes")
    common_types = dtypes.BIT64_TO_BIT32_DTYPE
    floatx, common = keras.config.floatx(), common_types["float64"]
    policy = keras.config.dtype_policy()  # made of floatx once, at its first use

    def compute_in(default: str, new_policy: Any, type_of_float64: str) -> None:
        keras.config.set_floatx(default)
        keras.config.set_dtype_policy(new_policy)
        common_types["float64"] = type_of_float64
        for function in vars(dtypes).values():
            if hasattr(function, "cache_clear"):  # answers that were given under the other rule
                function.cache_clear()

    compute_in("float64", "float64", "float64")
    try:
        yield keras
    finally:
        compute_in(floatx, policy, common)


def randomise_keras(model: Any, seed: int = 0) -> dict[str, np.ndarray]:
    """Give a Keras model random weights and statistics; returns them as "layer/variable" -> array.

    Filters and dense weights are He normal, so that signals keep their size in a deep network.
    """
    rng = np.random.default_rng(seed)
    arrays = {}
    for layer in model.layers:
        for variable in layer.variables:
            shape = tuple(variable.shape)
            if len(shape) > 1:
                x = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
            elif variable.name in ("gamma", "moving_variance"):
                x = rng.uniform(0.7, 1.3, shape)
            else:
                x = rng.uniform(-0.2, 0.2, shape)
            variable.assign(x)
            arrays[f"{layer.name}/{variable.name}"] = x
    return arrays


def keras_outputs(model: Any, images: np.ndarray) -> np.ndarray:
    """What a Keras model makes of images (N, H, W, C), outside training."""
    torch = torch_or_skip()
    with torch.no_grad():
        outputs: np.ndarray = model(images, training=False).numpy()
    return outputs
