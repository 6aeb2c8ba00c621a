"""What papers and libraries publish of each network: parameters, multiply-adds, sizes, depth."""

import pytest

from tests.models.peers import build, kept, layers_of, learned, stages
from tinynet.initializers import zeros
from tinynet.layers import Conv2D, Dense, Residual

KERAS = {"stride_in": "1x1", "conv_bias": True}
# AlexNet's two towers by hand, from §3.5 of the paper, which says 60 million
TWO_TOWERS = (
    (11 * 11 * 3 + 1) * 96
    + (5 * 5 * 48 + 1) * 256
    + (3 * 3 * 256 + 1) * 384
    + (3 * 3 * 192 + 1) * (384 + 256)
    + (6 * 6 * 256 + 1) * 4096
    + (4096 + 1) * 4096
    + (4096 + 1) * 1000
)


@pytest.fixture(autouse=True)
def no_time(monkeypatch):
    """Starting weights of 0, which take no time."""
    monkeypatch.setattr("tinynet.models.parts.he_normal", zeros)


# Torchvision and timm count what is learned, Keras the moving statistics too. Multiply-adds in
# millions: torchvision's documentation; tables 6 and 7 of MobileNet's paper; ShuffleNet's does not
# say what it counts beside the products, some 1%.
@pytest.mark.parametrize(
    ("name", "settings", "side", "torch", "keras", "millions"),
    [
        ("alexnet", {}, 227, TWO_TOWERS, None, None),
        ("alexnet", {"one_tower": True}, 224, 61_100_840, None, None),
        ("vgg16", {}, 224, 138_357_544, 138_357_544, 15_470),
        ("vgg19", {}, 224, 143_667_240, 143_667_240, 19_630),
        ("googlenet", {}, 224, 13_004_888, None, None),
        ("googlenet", {"auxiliary": False}, 224, 6_624_904, None, 1_498),
        ("resnet50", {}, 224, 25_557_032, None, None),
        ("resnet50", KERAS, 224, 25_583_592, 25_636_712, None),
        ("resnet101", {}, 224, 44_549_160, None, None),
        ("resnet101", KERAS, 224, None, 44_707_176, None),
        ("resnet152", {}, 224, 60_192_808, None, None),
        ("resnet152", KERAS, 224, None, 60_419_944, None),
        ("se_resnet50", {}, 224, 28_088_024, None, None),
        ("inception_v4", {}, 299, 42_679_816, 42_742_984, None),
        ("inception_resnet_v2", {}, 299, 55_813_192, 55_873_736, None),
        ("inception_resnet_v2", {"batch_norm_scale": True}, 299, 55_843_464, None, None),
        ("densenet121", {}, 224, 7_978_856, 8_062_504, None),
        ("densenet169", {}, 224, 14_149_480, 14_307_880, None),
        ("mobilenet", {}, 224, 4_231_976, 4_253_864, 569),
        ("mobilenet", {}, 160, None, 4_253_864, 290),
        ("mobilenet", {"width": 0.75}, 224, None, 2_601_976, 325),
        ("mobilenet", {"width": 0.5}, 224, None, 1_342_536, 149),
        ("mobilenet", {"width": 0.25}, 224, None, 475_544, 41),
        ("shufflenet_v2", {"multiplier": 0.5}, 224, 1_366_792, None, 41),
        ("shufflenet_v2", {}, 224, 2_278_604, None, 146),
        ("shufflenet_v2", {"multiplier": 1.5}, 224, 3_503_624, None, 299),
        ("shufflenet_v2", {"multiplier": 2.0}, 224, 7_393_996, None, 591),
    ],
)
def test_parameters_and_multiply_adds(name, settings, side, torch, keras, millions):
    model = build(name, 1000, (side, side, 3), **settings)
    assert torch is None or learned(model) == torch
    assert keras is None or kept(model) == keras
    if millions is not None:
        apart = 0.02 * millions if name == "shufflenet_v2" else 1 if name == "mobilenet" else 5
        assert abs(model.multiply_adds((side, side, 3)) / 1e6 - millions) < apart


# the paper's Table 6: 0.27, 0.46, 0.66, 0.85 million
@pytest.mark.parametrize("shortcuts", [True, False])
@pytest.mark.parametrize(
    ("depth", "count"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)]
)
def test_small_networks_with_and_without_shortcuts(depth, count, shortcuts):
    model = build("small_resnet", 10, (32, 32, 3), depth, shortcuts=shortcuts)
    assert learned(model) == count
    assert len(layers_of(model, Conv2D | Dense)) == depth
    assert len(layers_of(model, Residual)) == (depth - 2) // 2 * shortcuts


def test_parameters_counted_by_hand():
    model = build("vgg_like", 2, (32, 32, 1), filters=(32, 64), hidden=256)
    convolutions = (9 * 1 + 1) * 32 + (9 * 32 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 64
    assert learned(model) == convolutions + (8 * 8 * 64 + 1) * 256 + (256 + 1) * 2
    paper = {"batch_norm": False, "five_by_five": True, "paper_pools": True}
    model = build("googlenet", 1000, (224, 224, 3), **paper)
    # n1, n3 reduce, n3, n5 reduce, n5, pool of module 3a, each filter with a bias
    module = 193 * 64 + 193 * 96 + (9 * 96 + 1) * 128 + 193 * 16 + (25 * 16 + 1) * 32 + 193 * 32
    assert learned(model.base.children()["inception3a"]) == module
    aux = (512 + 1) * 128 + (4 * 4 * 128 + 1) * 1024 + (1024 + 1) * 1000
    assert learned(model.aux1) == aux
    assert learned(model.aux2) == aux + 16 * 128  # 528 channels


# stage of the base, side, channels
SIZES = {
    "alexnet": "conv1 55 96, pool1 27 96, conv2 27 256, pool2 13 256, conv4 13 384, pool5 6 256",
    "vgg16": "block1 112 64, block2 56 128, block3 28 256, block4 14 512, block5 7 512",
    "googlenet": "conv1 112 64, maxpool1 56 64, maxpool2 28 192, inception3b 28 480, "
    "inception4a 14 512, inception4d 14 528, inception4e 14 832, inception5b 7 1024",
    "resnet50": "conv1 112 64, maxpool 56 64, layer1 56 256, layer2 28 512, layer3 14 1024, "
    "layer4 7 2048",
    "small_resnet": "layer1 224 16, layer2 112 32, layer3 56 64",
    "densenet169": "conv0 112 64, pool0 56 64, denseblock1 56 256, transition1 28 128, "
    "denseblock2 28 512, transition2 14 256, denseblock3 14 1280, denseblock4 7 1664",
    "mobilenet": "conv1 112 32, block1 112 64, block3 56 128, block5 28 256, block6 14 512, "
    "block11 14 512, block12 7 1024, block13 7 1024",
    "shufflenet_v2": "conv1 112 24, maxpool 56 24, stage2 28 116, stage3 14 232, stage4 7 464, "
    "conv5 7 1024",
    "inception_v4": "stem 35 384, inception_a 35 384, reduction_a 17 1024, inception_b 17 1024, "
    "reduction_b 8 1536, inception_c 8 1536",
    "inception_resnet_v2": "conv2d_1a 149 32, conv2d_2a 147 32, conv2d_2b 147 64, "
    "maxpool_3a 73 64, conv2d_3b 73 80, conv2d_4a 71 192, maxpool_5a 35 192, mixed_5b 35 320, "
    "block35 35 320, mixed_6a 17 1088, block17 17 1088, mixed_7a 8 2080, block8 8 2080, "
    "conv2d_7b 8 1536",
}
DRAWN = "stem 35 384, block35 35 384, mixed_6a 17 1152, mixed_7a 8 2144, block8 8 2144"


@pytest.mark.parametrize(
    ("name", "settings", "published"),
    [
        *((name, {}, published) for name, published in SIZES.items()),
        ("googlenet", {"paper_pools": True}, SIZES["googlenet"]),
        ("inception_resnet_v2", {"repeats": (5, 10, 5), "as_drawn": True}, DRAWN),
    ],
)
def test_sizes_and_channels_are_those_of_the_papers_tables(name, settings, published):
    side = 299 if "inception" in name else 227 if name == "alexnet" else 224
    shape = (side, side, 3)
    found = stages(build(name, 10, shape, **settings), shape)
    for row in published.split(", "):
        stage, size, channels = row.split()
        assert found[stage] == (int(size), int(size), int(channels)), stage


@pytest.mark.parametrize(
    "name", ["vgg16", "vgg19", "resnet50", "resnet101", "resnet152", "densenet121", "densenet169"]
)
def test_depth_is_in_the_name(name):
    model = build(name, 2, (32, 32, 1), width=1 / 64)
    weighted = [path for path in layers_of(model, Conv2D | Dense) if ".skip." not in path]
    assert len(weighted) == int("".join(filter(str.isdigit, name)))
