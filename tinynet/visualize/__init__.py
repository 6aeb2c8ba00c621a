"""See a network: its picture, what passes through its layers, which places it looks at."""

from tinynet.visualize.cam import grad_cam
from tinynet.visualize.draw import draw
from tinynet.visualize.feature_maps import feature_maps, first_layer_filters, overlaid, overlay
from tinynet.visualize.observe import activation_and_gradient, activation_at
from tinynet.visualize.trace import Trace, TraceCallback, TraceRow, backward_trace

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
