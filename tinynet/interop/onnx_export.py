"""A network as an ONNX file, which other programs run without tinynet."""

from __future__ import annotations

from pathlib import Path

from tinynet._version import __version__
from tinynet.interop.load import architecture_of
from tinynet.interop.onnx_layers import OnnxGraph, write
from tinynet.layer import Layer, Shape
from tinynet.train.checkpoint import write_whole
from tinynet.train.reading import WeightsError

OPSET = 17  # of 2022: what every runtime of today reads, and all that the layers need
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
    made = architecture_of(model)
    if input_shape is None and made is None:
        raise WeightsError(
            "the shape of one input is not known: give input_shape=, such as (224, 224, 3)"
        )
    shape = tuple(int(n) for n in input_shape or made.settings["input_shape"])  # type: ignore[union-attr]
    try:
        output_shape = model.output_shape(shape)
    except ValueError as error:
        raise WeightsError(f"the model does not take an input of {shape}: {error}") from error

    graph = OnnxGraph()
    y = write(model, graph, graph.channels_first(INPUT, len(shape)), shape)
    if probabilities:
        y = graph.add("Softmax", y, axis=1)
    graph.add("Identity", graph.channels_last(y, len(output_shape)))
    graph.nodes[-1].output[0] = OUTPUT
    write_whole(Path(file), onnx_model(graph, shape, output_shape, type(model).__name__))
    return Path(file)


def onnx_model(graph: OnnxGraph, shape: Shape, output_shape: Shape, name: str) -> bytes:
    """The file's content, checked by onnx itself."""
    onnx, helper = graph.onnx, graph.onnx.helper
    size = sum(len(constant.raw_data) for constant in graph.constants)
    if size > LARGEST - 2**20:
        raise WeightsError(
            f"the network holds {size / 2**30:.1f} GiB, an ONNX file at most 2: export a smaller "
            "one"
        )
    ends = [
        [helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, ["N", *sizes])]
        for end, sizes in ((INPUT, shape), (OUTPUT, output_shape))
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, *ends, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,  # the one that came with this opset
        producer_name="tinynet",
        producer_version=__version__,
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
