"""The networks of the report's chapter 3, each a short table of its stages.

    model = resnet50(10, (224, 224, 3), rng=np.random.default_rng(0))

What the builders have in common; each docstring adds its own:

num_classes   number of classes, and of logits, which the network returns
input_shape   (H, W, C) of one image
batch_norm    True: normalise before each ReLU of the base; the convolutions then have no bias
epsilon       batch norm's ε
hidden        neurons of each hidden dense layer
keep_prob     dropout's probability of keeping a neuron
width         scales every number of filters; 1 is the paper's
rng           generator for the starting weights: He normal before a ReLU, Glorot uniform for the
              logits, biases 0 (§2.3.6)
Raises ValueError, in one line that starts with the builder's name, if an argument is not one of
these or the image is too small: then it names the layer at which the size runs out.
"""

from tinynet.models.alexnet import alexnet
from tinynet.models.densenet import densenet121, densenet169
from tinynet.models.googlenet import GoogLeNet, googlenet
from tinynet.models.inception import inception_resnet_v2, inception_v4
from tinynet.models.mobilenet import mobilenet
from tinynet.models.parts import Classifier
from tinynet.models.resnet import resnet50, resnet101, resnet152, se_resnet50, small_resnet
from tinynet.models.shufflenet_v2 import shufflenet_v2
from tinynet.models.vgg import vgg16, vgg19, vgg_like

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
    "resnet50",
    "resnet101",
    "resnet152",
    "se_resnet50",
    "shufflenet_v2",
    "small_resnet",
    "vgg16",
    "vgg19",
    "vgg_like",
]
