"""Logits and gradients beside torchvision's, timm's and Keras's networks with the same weights.

Sizes are odd and even at the strides, and heights and widths differ down to the last layer.
"""

import re
from functools import partial
from importlib import import_module

import numpy as np
import pytest

from tests.models.dense_heads import he_normal, on_no_device, with_small_head
from tests.models.peers import (
    TRAIN,
    assert_close,
    assert_equals_torchs,
    assert_gradients_close,
    build,
    images,
    kept,
    learned,
)
from tests.oracles import (
    keras_in_float64,
    randomise,
    randomise_keras,
    timm_or_skip,
    torch_or_skip,
    torchvision_or_skip,
)
from tinynet.interop.convert import converted, settings_mismatch
from tinynet.interop.keras_file import counted_again
from tinynet.interop.names import WeightNames, names_of

pytestmark = pytest.mark.slow
CLASSES, HIDDEN = 7, 24
PAPERS_GOOGLENET = {
    "batch_norm": False,
    "five_by_five": True,
    "local_response_norm": True,
    "paper_pools": True,
}


def torchvision(name, **settings):
    return lambda: getattr(torchvision_or_skip().models, name)(num_classes=CLASSES, **settings)


def timm(name):
    return lambda: timm_or_skip().create_model(name, num_classes=CLASSES)


def dense_headed(name, channels):
    """torchvision's network whose base leaves 2 × 3 cells: they are flattened, and order counts."""
    return lambda: with_small_head(on_no_device(name), 2 * 3 * channels, HIDDEN, CLASSES)


def papers_googlenet():
    """torchvision's blocks put together as the paper has them."""
    torch, _ = torch_or_skip(), torchvision_or_skip()
    nn, source = torch.nn, import_module("torchvision.models.googlenet")

    class Unit(nn.Module):
        def __init__(self, channels, filters, **kwargs):
            super().__init__()
            self.conv = nn.Conv2d(channels, filters, **kwargs)

        def forward(self, x):
            return torch.relu(self.conv(x))

    class Auxiliary(source.InceptionAux):
        def __init__(self, channels, classes, **kwargs):
            super().__init__(channels, classes, Unit, **kwargs)
            self.fc1 = nn.Linear(2 * 2 * 128, 1024)

        def forward(self, x):
            x = self.conv(torch.nn.functional.avg_pool2d(x, 5, 3)).flatten(1)
            return self.fc2(self.dropout(torch.relu(self.fc1(x))))

    class Module(source.Inception):
        def __init__(self, *channels):
            super().__init__(*channels, Unit)
            self.branch3[1] = Unit(channels[4], channels[5], kernel_size=5, padding=2)

    theirs = source.GoogLeNet(CLASSES, init_weights=False, blocks=[Unit, Module, Auxiliary])
    norm = partial(nn.LocalResponseNorm, 5, alpha=5e-4, beta=0.75, k=2)
    theirs.maxpool1 = nn.Sequential(theirs.maxpool1, norm())
    theirs.maxpool2 = nn.Sequential(norm(), theirs.maxpool2)
    theirs.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)
    return he_normal(theirs)


SHUFFLENETS = [
    ("shufflenet_v2", {"multiplier": m}, (64, 90, 3), torchvision(f"shufflenet_v2_x{name}"))
    for m, name in ((0.5, "0_5"), (1.0, "1_0"), (1.5, "1_5"), (2.0, "2_0"))
]
GOOGLENET = torchvision("googlenet", init_weights=False, aux_logits=True)
TORCH = [
    ("alexnet", {"hidden": HIDDEN}, (95, 127, 3), dense_headed("alexnet", 256)),
    ("vgg16", {"hidden": HIDDEN}, (64, 97, 3), dense_headed("vgg16", 512)),
    ("vgg19", {"hidden": HIDDEN}, (64, 97, 3), dense_headed("vgg19", 512)),
    ("googlenet", {}, (96, 80, 3), lambda: he_normal(GOOGLENET())),  # aux1 pools 6 × 5 cells
    ("googlenet", PAPERS_GOOGLENET, (128, 128, 3), papers_googlenet),
    ("resnet50", {}, (35, 42, 3), torchvision("resnet50")),
    ("resnet101", {}, (35, 42, 3), torchvision("resnet101")),
    ("resnet152", {}, (35, 42, 3), torchvision("resnet152")),
    ("se_resnet50", {}, (35, 42, 3), timm("seresnet50")),
    ("densenet121", {}, (65, 75, 3), torchvision("densenet121")),
    ("densenet169", {}, (65, 75, 3), torchvision("densenet169")),
    ("mobilenet", {}, (34, 64, 3), timm("mobilenetv1_100")),
    *SHUFFLENETS,
    ("inception_v4", {}, (107, 139, 3), timm("inception_v4")),
    ("inception_resnet_v2", {}, (107, 139, 3), timm("inception_resnet_v2")),
]


@pytest.mark.parametrize(("name", "settings", "shape", "peer"), TORCH)
def test_logits_and_gradients_equal_torchs(name, settings, shape, peer):
    torch_or_skip().manual_seed(0)
    theirs, names = randomise(peer()), names_of(name, "torch")
    epsilon = {} if names.epsilon is None else {"epsilon": names.epsilon}
    ours = build(name, CLASSES, shape, **names.requires | epsilon | settings)
    if settings is not PAPERS_GOOGLENET:
        assert settings_mismatch(ours.architecture.settings, names) is None
        assert learned(ours) == sum(p.numel() for p in theirs.parameters())
    assert_equals_torchs(ours, theirs, names, shape)


def test_the_original_alexnet_equals_torchs():
    """The paper's network; torch divides the sum of the squares by their number, 5."""
    nn = torch_or_skip().nn
    norm = {"size": 5, "alpha": 5 * 1e-4, "beta": 0.75, "k": 2}

    def stage(*convolution, **settings):
        return [nn.Conv2d(*convolution, **settings), nn.ReLU()]

    def dense(*sizes):
        return [nn.Linear(*sizes), nn.ReLU(), nn.Dropout()]

    theirs = nn.Sequential(
        *[*stage(3, 96, 11, 4), nn.LocalResponseNorm(**norm), nn.MaxPool2d(3, 2)],
        *[*stage(96, 256, 5, 1, 2, groups=2), nn.LocalResponseNorm(**norm), nn.MaxPool2d(3, 2)],
        *stage(256, 384, 3, 1, 1),
        *stage(384, 384, 3, 1, 1, groups=2),
        *[*stage(384, 256, 3, 1, 1, groups=2), nn.MaxPool2d(3, 2)],
        *[nn.Flatten(), *dense(2 * 3 * 256, HIDDEN), *dense(HIDDEN, HIDDEN)],
        nn.Linear(HIDDEN, CLASSES),
    )
    numbers = [n for n, m in theirs.named_children() if hasattr(m, "weight")]
    ours = [f"base.conv{i}" for i in range(1, 6)] + ["head.fc6", "head.fc7", "head.classes"]
    names = WeightNames("torch", "the paper", dict(zip(ours, numbers, strict=True)).__getitem__)
    model = build("alexnet", CLASSES, (99, 131, 3), hidden=HIDDEN)
    assert_equals_torchs(model, he_normal(randomise(theirs)), names, (99, 131, 3))


def counted(arrays):
    """Keras's arrays, the automatic names counted from the smallest: conv2d, conv2d_1, …"""
    split = {name: name.rsplit("/", 1) for name in arrays}
    layers = counted_again({layer for layer, _ in split.values()})
    return {f"{layers[split[name][0]]}/{split[name][1]}": x for name, x in arrays.items()}


@pytest.mark.parametrize(
    ("name", "theirs", "settings", "shape"),
    [
        ("vgg16", "VGG16", {}, (32, 64, 3)),
        ("vgg19", "VGG19", {}, (32, 64, 3)),
        ("resnet50", "ResNet50", {}, (35, 42, 3)),
        ("resnet101", "ResNet101", {}, (35, 42, 3)),
        ("resnet152", "ResNet152", {}, (35, 42, 3)),
        ("densenet121", "DenseNet121", {}, (65, 75, 3)),
        ("densenet169", "DenseNet169", {}, (65, 75, 3)),
        ("mobilenet", "MobileNet", {}, (64, 90, 3)),
        ("mobilenet", "MobileNet", {"width": 0.3}, (33, 47, 3)),
        ("inception_resnet_v2", "InceptionResNetV2", {}, (107, 139, 3)),
    ],
)
def test_logits_and_gradients_equal_kerass(name, theirs, settings, shape):
    torch = torch_or_skip()
    alpha = {"alpha": settings["width"]} if "width" in settings else {}
    x, dy = images(shape), np.random.default_rng(2).standard_normal((2, CLASSES))
    with keras_in_float64() as keras:
        keras.layers.Conv2D(1, 1)  # takes an automatic name, so that those below start later
        model = getattr(keras.applications, theirs)(
            weights=None, input_shape=shape, classes=CLASSES, classifier_activation=None, **alpha
        )
        arrays = randomise_keras(model)
        t_x = torch.from_numpy(x).requires_grad_()
        logits = model(t_x, training=False)
        logits.backward(torch.from_numpy(dy))
    gradients = {
        f"{layer.name}/{v.name}": v.value.grad.numpy()
        for layer in model.layers
        for v in layer.trainable_variables
    }
    arrays.pop("dropout/seed_generator_state", None)

    names = names_of(name, "keras")
    epsilon = {} if names.epsilon is None else {"epsilon": names.epsilon}
    ours = build(name, CLASSES, shape, **names.requires | epsilon | settings).to(dtype="float64")
    assert settings_mismatch(ours.architecture.settings, names) is None
    assert kept(ours) == sum(x.size for x in arrays.values())
    ours.load_state(converted(ours, counted(arrays), names, shape))
    ours.freeze(parameters=False)
    y, cache = ours.forward(x, TRAIN)
    assert_close(y, logits.detach().numpy(), "logits")
    assert_close(ours.backward(dy, cache), t_x.grad.numpy(), "images")
    assert_gradients_close(ours, converted(ours, counted(arrays | gradients), names, shape))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg_like_equals_torchs(batch_norm):
    nn = torch_or_skip().nn
    shape, filters = (8, 13, 2), (3, 4)
    layers, channels = [], shape[2]
    for count in filters:
        for _ in range(2):
            layers.append(nn.Conv2d(channels, count, 3, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(count, eps=1e-3)] * batch_norm + [nn.ReLU()]
            channels = count
        layers.append(nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(2 * 3 * 4, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, CLASSES)]
    theirs = nn.Sequential(nn.Sequential(*layers), nn.Sequential(*head))
    names = WeightNames(
        "torch", "by hand", lambda ours: ours.replace("base", "0").replace("head", "1")
    )
    model = build("vgg_like", CLASSES, shape, filters, 5, batch_norm=batch_norm)
    assert_equals_torchs(model, he_normal(randomise(theirs)), names, shape)


@pytest.mark.parametrize(
    "settings",
    [{}, {"shortcuts": False}, {"projection": True}, {"batch_norm": False}],
    ids=["residual", "plain", "projection", "no batch norm"],
)
def test_small_resnet_equals_torchs(settings):
    torch = torch_or_skip()
    nn, f = torch.nn, torch.nn.functional
    shape, filters = (9, 8, 3), (4, 8, 16)

    def unit(channels, count, kernel=3, stride=1):
        batch_norm = settings.get("batch_norm", True)
        at = {"stride": stride, "padding": kernel // 2, "bias": not batch_norm}
        conv = nn.Conv2d(channels, count, kernel, **at)
        return nn.Sequential(conv, nn.BatchNorm2d(count) if batch_norm else nn.Identity())

    class Block(nn.Module):
        def __init__(self, channels, count, stride):
            super().__init__()
            self.one, self.two = unit(channels, count, 3, stride), unit(count, count)
            projected = settings.get("projection") and stride == 2
            self.skip = unit(channels, count, 1, stride) if projected else None
            self.stride, self.new = stride, count - channels

        def forward(self, x):
            y = self.two(torch.relu(self.one(x)))
            if not settings.get("shortcuts", True):
                return torch.relu(y)
            if self.skip is not None:
                return torch.relu(y + self.skip(x))
            x = x[:, :, :: self.stride, :: self.stride]
            return torch.relu(y + f.pad(x, (0, 0, 0, 0, 0, self.new)))

    blocks = [Block(4, 4, 1), Block(4, 4, 1), Block(4, 8, 2), Block(8, 8, 1), Block(8, 16, 2)]
    theirs = nn.Sequential(
        *[unit(3, 4), nn.ReLU(), *blocks, Block(16, 16, 1)],
        *[nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)],
    )

    def there(ours):
        if not ours.startswith("base.layer"):
            return {"base.conv1": "0.0", "base.bn1": "0.1", "head.classes": "10"}[ours]
        stage, i, kind, number = re.fullmatch(
            r"base\.layer(\d)\.(\d)\..*(conv|bn)(\d?)", ours
        ).groups()
        part = {"1": "one", "2": "two", "": "skip"}[number]
        return f"{2 * int(stage) + int(i)}.{part}.{int(kind == 'bn')}"

    model = build("small_resnet", CLASSES, shape, 14, filters=filters, **settings)
    assert_equals_torchs(model, randomise(theirs), WeightNames("torch", "by hand", there), shape)
