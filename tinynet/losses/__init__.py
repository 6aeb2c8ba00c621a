"""Losses: the distance between predictions and labels.  Report §2.3.1-2, §3.2."""

from tinynet.losses.auxiliary import *
from tinynet.losses.base import *
from tinynet.losses.binary import *
from tinynet.losses.cross_entropy import *
from tinynet.losses.squared_error import *
