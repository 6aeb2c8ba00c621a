"""Seeing a network: its picture, what passes through its layers, what it looks at."""

from tinynet.seeing.cam import grad_cam
from tinynet.seeing.images import feature_maps, first_layer_filters, overlaid, overlay
from tinynet.seeing.observe import activation_and_gradient, activation_at
from tinynet.seeing.page import draw
from tinynet.seeing.trace import Trace, backward_trace
from tinynet.seeing.trace_row import TraceRow
from tinynet.seeing.trace_run import TraceCallback

__all__ = [
    "Trace",
    "TraceCallback",
    "TraceRow",
    "activation_and_gradient",
    "activation_at",
    "backward_trace",
    "draw",
    "feature_maps",
    "first_layer_filters",
    "grad_cam",
    "overlaid",
    "overlay",
]
