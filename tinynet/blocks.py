"""Moved to tinynet.engine.plan.epilogues, where "block" is "fused" and "tail" "epilogue"."""

from tinynet.engine.plan.epilogues import batchnorm_fused_backward as batchnorm_block_backward
from tinynet.engine.plan.epilogues import batchnorm_fused_forward as batchnorm_block_forward
from tinynet.engine.plan.epilogues import conv2d_fused_backward as conv2d_block_backward
from tinynet.engine.plan.epilogues import conv2d_fused_forward as conv2d_block_forward
from tinynet.engine.plan.epilogues import dense_fused_backward as dense_block_backward

__all__ = [
    "batchnorm_block_backward",
    "batchnorm_block_forward",
    "conv2d_block_backward",
    "conv2d_block_forward",
    "dense_block_backward",
]
