"""Weights from other libraries, and networks for them."""
