"""A network as an ONNX file, which other programs run without tinynet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinynet._version import __version__
from tinynet.interop.errors import WeightsError
from tinynet.interop.onnx_graph import OPSET, OnnxGraph, onnx
from tinynet.interop.onnx_layers import to_onnx
from tinynet.layer import Layer, Shape
from tinynet.train.checkpoint import write_whole

INPUT, OUTPUT = "x", "y"
LARGEST = 2**31 - 1  # bytes that one protocol-buffer message can hold


def export_onnx(
    model: Layer,
    file: str | Path,
    input_shape: Shape | None = None,
    *,
    probabilities: bool = False,
) -> Path:
    """Write ``model``, as it is outside training, to an ONNX file; returns the file's path.

        x (N, *input_shape) float32  →  y = model(x) (N, *output_shape) float32

    Any batch size N; the input is laid out as here, (N, H, W, C).
    input_shape     shape of one input; None: what the model's builder was given
    probabilities   True: y = softmax(model(x)), for a model that returns logits
    Raises WeightsError if onnx is not installed, a layer has no ONNX form, the shape is not known
    or does not fit, or the file would be larger than the 2 GiB that the format allows.
    """
    graph = OnnxGraph()
    shape = shape_of_input(model, input_shape)
    try:
        output_shape = model.output_shape(shape)
    except ValueError as error:
        raise WeightsError(f"the model does not take an input of {shape}: {error}") from error

    x = INPUT
    if len(shape) == 3:
        x = graph.add("Transpose", x, perm=(0, 3, 1, 2))
    y = to_onnx(model, graph, x, shape)
    if probabilities:
        y = graph.add("Softmax", y, axis=1)
    if len(output_shape) == 3:
        y = graph.add("Transpose", y, perm=(0, 2, 3, 1))
    graph.add("Identity", y)
    graph.rename_last(OUTPUT)

    data = onnx_model(graph, shape, output_shape, type(model).__name__)
    write_whole(Path(file), data)
    return Path(file)


def shape_of_input(model: Layer, input_shape: Shape | None) -> Shape:
    """``input_shape``, or the one in the model's settings."""
    if input_shape is not None:
        return tuple(int(n) for n in input_shape)
    architecture = getattr(model, "architecture", None)
    if architecture is None:
        raise WeightsError(
            "the shape of one input is not known: give input_shape=, such as (224, 224, 3)"
        )
    return tuple(architecture.settings["input_shape"])


def onnx_model(graph: OnnxGraph, shape: Shape, output_shape: Shape, name: str) -> bytes:
    """The file's content, checked by onnx itself."""
    package: Any = onnx()
    helper = package.helper
    size = sum(len(constant.raw_data) for constant in graph.constants)
    if size > LARGEST - 2**20:
        raise WeightsError(
            f"the network holds {size / 2**30:.1f} GiB, an ONNX file at most 2: export a smaller "
            "one"
        )

    def tensor(which: str, dimensions: Shape) -> Any:
        return helper.make_tensor_value_info(which, package.TensorProto.FLOAT, ["N", *dimensions])

    content = helper.make_graph(
        graph.nodes,
        name,
        [tensor(INPUT, shape)],
        [tensor(OUTPUT, output_shape)],
        graph.constants,
    )
    model = helper.make_model(
        content,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,  # the one that came with this opset
        producer_name="tinynet",
        producer_version=__version__,
    )
    package.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
