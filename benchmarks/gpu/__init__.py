"""Kernels and whole training steps on an NVIDIA GPU beside PyTorch's and beside their floors."""
