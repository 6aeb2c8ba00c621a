"""Optimisers: weight updates from gradients.  Report §2.3.3-4."""

from tinynet.optimizers.adagrad import *
from tinynet.optimizers.adam import *
from tinynet.optimizers.base import *
from tinynet.optimizers.clipping import *
from tinynet.optimizers.rmsprop import *
from tinynet.optimizers.sgd import *
