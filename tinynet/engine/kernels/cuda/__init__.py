"""Kernels for CuPy's arrays: CUDA sources (``.cu``) that can be read, and their launchers.

Importing them needs neither CuPy nor a GPU; a source is compiled for a geometry when that is first
met.
"""
