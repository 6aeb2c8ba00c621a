"""An ONNX graph under construction."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array, to_device
from tinynet.interop.files import WeightsError
from tinynet.layer import Shape

OPSET = 17  # of 2022: what every runtime of today reads, and all that the layers need


class OnnxGraph:
    """Nodes and constants of a graph, and their names, each given once.

    Everything is float32, the type that every runtime has all operators for.
    """

    def __init__(self) -> None:
        self.onnx = imported()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.path = ""  # dotted name of the layer in hand, which its nodes are named after
        self._names: dict[str, int] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; returns that output's name."""
        name = self._unused(f"{self.path}/{operator}")
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, value: Array | np.floating, name: str) -> str:
        """A constant in the graph: float32, or int64 for whole numbers; returns its name."""
        x = np.asarray(value if isinstance(value, np.floating) else to_device(value, "numpy"))
        x = np.ascontiguousarray(x, np.int64 if x.dtype.kind in "iu" else np.float32)
        name = self._unused(f"{self.path}.{name}")
        self.constants.append(self.onnx.numpy_helper.from_array(x, name))
        return name

    def whole_numbers(self, values: Shape, name: str) -> str:
        """A constant list of whole numbers: a shape, axes, bounds."""
        return self.constant(np.array(values, np.int64), name)

    def channels_first(self, x: str, rank: int) -> str:
        """Move the last of ``rank`` axes behind the batch: (N, H, W, C) -> (N, C, H, W)."""
        return self.add("Transpose", x, perm=(0, rank, *range(1, rank))) if rank > 1 else x

    def channels_last(self, x: str, rank: int) -> str:
        """Undo ``channels_first``."""
        return self.add("Transpose", x, perm=(0, *range(2, rank + 1), 1)) if rank > 1 else x

    def _unused(self, name: str) -> str:
        """``name`` without a dot or slash in front, and with a number if it was given before."""
        name = name.lstrip("./")
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return f"{name}_{count}" if count else name


def imported() -> Any:
    """The onnx package.  Raises WeightsError, with the command to install it, if it is missing."""
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise WeightsError(
            'onnx is not installed, which writes the file: python -m pip install "tinynet-dl[onnx]"'
        ) from error
    return onnx
