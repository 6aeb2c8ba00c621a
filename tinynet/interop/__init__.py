"""Weights from other libraries and to disk, and networks for other programs."""

from tinynet.interop.load import LoadReport, load_keras, load_torch
from tinynet.interop.names import WeightNames, renamed
from tinynet.interop.onnx_export import export_onnx
from tinynet.interop.preprocess import imagenet_preprocess
from tinynet.interop.weights import load_weights, save_weights
from tinynet.train.reading import WeightsError

__all__ = [
    "LoadReport",
    "WeightNames",
    "WeightsError",
    "export_onnx",
    "imagenet_preprocess",
    "load_keras",
    "load_torch",
    "load_weights",
    "renamed",
    "save_weights",
]
