"""Whole networks, one file per architecture, each a short table of its stages."""

from tinynet.models.alexnet import alexnet
from tinynet.models.classifier import Classifier
from tinynet.models.densenet import densenet121, densenet169
from tinynet.models.googlenet import GoogLeNet, googlenet
from tinynet.models.inception_resnet_v2 import inception_resnet_v2
from tinynet.models.inception_v4 import inception_v4
from tinynet.models.mobilenet import mobilenet
from tinynet.models.resnet import resnet50, resnet101, resnet152
from tinynet.models.se_resnet import se_resnet50
from tinynet.models.shufflenet_v2 import shufflenet_v2
from tinynet.models.small_resnet import small_resnet
from tinynet.models.vgg import vgg16, vgg19
from tinynet.models.vgg_like import vgg_like

__all__ = [
    "Classifier",
    "GoogLeNet",
    "alexnet",
    "densenet121",
    "densenet169",
    "googlenet",
    "inception_resnet_v2",
    "inception_v4",
    "mobilenet",
    "resnet101",
    "resnet152",
    "resnet50",
    "se_resnet50",
    "shufflenet_v2",
    "small_resnet",
    "vgg16",
    "vgg19",
    "vgg_like",
]
