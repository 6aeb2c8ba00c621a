"""The report's layers: one file per heading, pure functions above, thin layers below."""

from tinynet.layers.activations import *
from tinynet.layers.adaptive_pooling import *
from tinynet.layers.batchnorm import *
from tinynet.layers.channels import *
from tinynet.layers.combine import *
from tinynet.layers.conv import *
from tinynet.layers.dense import *
from tinynet.layers.dropout import *
from tinynet.layers.flatten import *
from tinynet.layers.gate import *
from tinynet.layers.group_norm import *
from tinynet.layers.layer_norm import *
from tinynet.layers.local_response import *
from tinynet.layers.pooling import *
from tinynet.layers.scale import *
