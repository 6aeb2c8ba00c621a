"""A training step and predictions on an NVIDIA GPU, as captured CUDA graphs."""
