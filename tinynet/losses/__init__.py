"""How far predictions are from the true labels.  Report §2.3.1-2, §3.2."""

from tinynet.losses.auxiliary import *
from tinynet.losses.base import *
from tinynet.losses.cross_entropy import *
