"""The error of this package."""


class WeightsError(Exception):
    """A file of weights cannot be read, or does not fit the network; the network is unchanged."""
