"""Whether kernels may convolve by Winograd's algorithm, which rounds otherwise than a plain sum.

The environment variable TINYNET_WINOGRAD=0 turns it off, for the NumPy and the compiled kernels.
"""

import os

WINOGRAD = os.environ.get("TINYNET_WINOGRAD", "1") != "0"
