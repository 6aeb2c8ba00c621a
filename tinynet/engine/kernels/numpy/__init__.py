"""Kernels for NumPy's arrays: blocks of images that stay in the cache, a thread per core."""
