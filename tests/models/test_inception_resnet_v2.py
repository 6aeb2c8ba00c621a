"""tinynet/models/inception_resnet_v2.py, against Keras's and timm's networks with the same weights.

The peers agree with each other in all but batch norm's gamma, which Keras leaves out.
"""

import numpy as np
import pytest

from tests.models.peers import (
    ROUNDING,
    assert_close,
    assert_gradients_equal_torchs,
    assert_logits_equal_torchs,
    images,
    kept,
    learned,
    stirred,
)
from tests.oracles import (
    keras_in_float64,
    keras_outputs,
    randomise,
    randomise_keras,
    timm_or_skip,
    torch_or_skip,
)
from tinynet.gradient_check import check_gradients
from tinynet.interop.convert import converted, settings_mismatch
from tinynet.interop.keras_names import counted_again
from tinynet.interop.names import names_of
from tinynet.layer import EVAL, Mode
from tinynet.layers import BatchNorm, Conv2D, Dropout, ReLU, Scale
from tinynet.models import inception_resnet_v2
from tinynet.models.inception_blocks import Builder
from tinynet.models.inception_resnet_v2 import (
    BLOCK_8,
    BLOCK_17,
    BLOCK_35,
    MIXED_6A,
    MIXED_7A,
    STEM,
    residual_block,
)

TRAIN = Mode(train=True)
SHAPE = (107, 139, 3)  # leaves 2 × 3 of the image, so that heights and widths cannot be swapped
SMALL = {"repeats": (1, 1, 2), "width": 1 / 64}


def build(num_classes=3, input_shape=(75, 75, 1), **settings):
    rng = np.random.default_rng(0)
    return inception_resnet_v2(num_classes, input_shape, rng=rng, **settings)


def upstream():
    return np.random.default_rng(2).standard_normal((2, 1000))


def counted(arrays):
    """Keras's arrays, the automatic names counted from the smallest: conv2d, conv2d_1, …"""
    split = {name: name.rsplit("/", 1) for name in arrays}
    layers = counted_again({layer for layer, _ in split.values()})
    return {f"{layers[split[name][0]]}/{split[name][1]}": x for name, x in arrays.items()}


@pytest.fixture(scope="module")
def keras_run():
    """Arrays of Keras's network, its logits, and the same in training with gradients; float64."""
    torch = torch_or_skip()
    with keras_in_float64() as keras:
        keras.layers.Conv2D(1, 1)  # takes an automatic name, so that those below start later
        theirs = keras.applications.InceptionResNetV2(
            weights=None, input_shape=SHAPE, classifier_activation=None
        )
        arrays = randomise_keras(theirs)
        logits = keras_outputs(theirs, images(SHAPE))
        x = torch.from_numpy(images(SHAPE)).requires_grad_()
        y = theirs(x, training=True)
        y.backward(torch.from_numpy(upstream()))
    gradients = {
        f"{layer.name}/{v.name}": v.value.grad.numpy()
        for layer in theirs.layers
        for v in layer.trainable_variables
    }
    return arrays, logits, y.detach().numpy(), x.grad.numpy(), gradients


@pytest.fixture(scope="module")
def ours_as_keras(keras_run):
    """Our network with the arrays of Keras's, and what converts its gradients."""
    names = names_of("inception_resnet_v2", "keras")
    model = build(1000, SHAPE)
    assert settings_mismatch(model.architecture.settings, names) is None
    model.to(dtype="float64").freeze(parameters=False, statistics=False)
    arrays = keras_run[0]
    model.load_state(converted(model, counted(arrays), names, SHAPE))
    return model, names


def test_parameters_are_as_many_as_published(keras_run, ours_as_keras):
    arrays, (model, _) = keras_run[0], ours_as_keras
    assert sum(x.size for x in arrays.values()) == 55_873_736
    assert kept(model) == 55_873_736
    assert learned(model) == 55_813_192
    assert len(model.state()) == len(arrays)


def test_kerass_automatic_names_count_from_any_number(keras_run):
    arrays = keras_run[0]
    assert "conv2d/kernel" not in arrays
    names = counted(arrays)
    assert names["conv2d/kernel"].shape == (3, 3, 3, 32)
    assert "conv2d_202/kernel" in names
    assert "conv2d_203/kernel" not in names


def test_logits_and_gradients_equal_kerass(keras_run, ours_as_keras):
    arrays, logits, training_logits, t_dx, gradients = keras_run
    model, names = ours_as_keras
    assert_close(model.forward(images(SHAPE))[0], logits)

    model.zero_grad()
    y, cache = model.forward(images(SHAPE), TRAIN)
    dx = model.backward(upstream(), cache)
    assert_close(y, training_logits)
    assert_close(dx, t_dx)
    wanted = converted(model, counted(arrays | gradients), names, SHAPE)
    # the last batch norm takes the last block's biases out again: no gradient but rounding
    rounding = ROUNDING * max(abs(x).max() for x in gradients.values())
    for name, p in model.parameters().items():
        assert_close(p.grad, wanted[name], name, rounding)


def test_logits_and_gradients_equal_timms():
    torch, timm = torch_or_skip(), timm_or_skip()
    torch.manual_seed(0)
    theirs = randomise(timm.create_model("inception_resnet_v2"))
    names = names_of("inception_resnet_v2", "torch")
    ours = build(1000, SHAPE, batch_norm_scale=True).to(dtype="float64")
    assert settings_mismatch(ours.architecture.settings, names) is None
    assert learned(ours) == sum(p.numel() for p in theirs.parameters()) == 55_843_464
    assert len(ours.state()) == sum("num_batches" not in name for name in theirs.state_dict())
    assert_logits_equal_torchs(ours, theirs, names, SHAPE)
    assert_gradients_equal_torchs(ours, theirs, names, SHAPE)


def test_timms_weights_ask_for_a_gamma():
    message = settings_mismatch(
        build(**SMALL).architecture.settings, names_of("inception_resnet_v2", "torch")
    )
    assert message == "build it with repeats=(10, 20, 10), batch_norm_scale=True"


def shapes_of(base, shape=(299, 299, 3)):
    """Stage -> the shape of its output."""
    shapes = {}
    for name, layer in base.children().items():
        shape = shapes[name] = layer.output_shape(shape)
    return shapes


def test_sizes_and_channels_of_the_released_network():
    base = build(2, (299, 299, 3), repeats=(1, 1, 1)).base
    assert shapes_of(base) == {
        "conv2d_1a": (149, 149, 32),
        "conv2d_2a": (147, 147, 32),
        "conv2d_2b": (147, 147, 64),
        "maxpool_3a": (73, 73, 64),
        "conv2d_3b": (73, 73, 80),
        "conv2d_4a": (71, 71, 192),
        "maxpool_5a": (35, 35, 192),
        "mixed_5b": (35, 35, 320),
        "block35": (35, 35, 320),
        "mixed_6a": (17, 17, 1088),
        "block17": (17, 17, 1088),
        "mixed_7a": (8, 8, 2080),
        "block8": (8, 8, 2080),
        "conv2d_7b": (8, 8, 1536),
    }


def test_sizes_and_channels_of_the_network_as_drawn():
    model = build(2, (299, 299, 3), repeats=(5, 10, 5), width=1 / 8, as_drawn=True)
    assert shapes_of(model.base) == {
        "stem": (35, 35, 384 // 8),
        "block35": (35, 35, 384 // 8),
        "mixed_6a": (17, 17, 1152 // 8),
        "block17": (17, 17, 1152 // 8),
        "mixed_7a": (8, 8, 2144 // 8),
        "block8": (8, 8, 2144 // 8),
    }
    first = [model.base.layers[0].layers[4].branches[1].layers[i].layers[0] for i in (1, 2)]
    assert [conv.kernel_size for conv in first] == [(7, 1), (1, 7)]


def factors(model):
    """Stage -> (factor or None, whether a ReLU follows) of each of its blocks."""
    found = {}
    for stage in ("block35", "block17", "block8"):
        blocks = []
        for block in model.base.children()[stage].layers:
            inner = block.layers[0].main.children()
            factor = inner["scale"].factor if "scale" in inner else None
            blocks.append((factor, isinstance(block.layers[-1], ReLU)))
        found[stage] = blocks
    return found


def test_residuals_are_scaled_and_only_the_released_networks_last_one_is_not():
    model = build(repeats=(2, 1, 3), width=1 / 64)
    rest = {"block35": 2 * [(0.17, True)], "block17": [(0.10, True)]}
    scaled = (0.20, True)
    assert factors(model) == {**rest, "block8": [scaled, scaled, (None, False)]}
    drawn = build(repeats=(2, 1, 3), width=1 / 64, as_drawn=True)
    assert factors(drawn) == {**rest, "block8": 3 * [scaled]}
    assert factors(build(repeats=(0, 0, 0), width=1 / 64)) == dict.fromkeys(
        rest | {"block8": 0}, []
    )


def test_a_block_adds_a_part_of_what_its_branches_make():
    block = stirred(residual_block(builder(), BLOCK_17, 5, 0.25)).to(dtype="float64")
    x = np.random.default_rng(1).standard_normal((2, 6, 5, 5))
    main = block.layers[0].main.children()
    f = main["conv2d"].forward(main["branches"].forward(x)[0])[0]
    assert np.allclose(block.forward(x)[0], np.maximum(x + 0.25 * f, 0), rtol=1e-12, atol=1e-12)
    assert isinstance(main["scale"], Scale)
    assert main["conv2d"].bias is not None


def builder(width=1 / 48):
    return Builder(width, False, 1e-3, np.random.default_rng(0))


@pytest.mark.parametrize("mode", [TRAIN, EVAL])
@pytest.mark.parametrize(
    ("plan", "shape"),
    [(STEM["mixed_5b"], (4, 3, 3)), (MIXED_6A, (5, 6, 3)), (MIXED_7A, (6, 5, 2))],
    ids=["mixed_5b", "mixed_6a", "mixed_7a"],
)
def test_gradients_of_the_blocks_without_a_shortcut(plan, shape, mode):
    block = stirred(builder(1 / 96)(plan, shape[-1]))
    x = np.random.default_rng(1).standard_normal((3, *shape))
    report = check_gradients(block, x, mode)
    assert report.undecidable == 0
    assert {check.name for check in report.arrays} == {"x", *block.parameters()}


@pytest.mark.parametrize("mode", [TRAIN, EVAL])
@pytest.mark.parametrize(
    ("branches", "factor"),
    [(BLOCK_35, 0.17), (BLOCK_17, 0.10), (BLOCK_8, 0.20), (BLOCK_8, None)],
    ids=["A", "B", "C", "the last C"],
)
def test_gradients_of_the_residual_blocks(branches, factor, mode):
    block = stirred(residual_block(builder(), branches, 4, factor))
    x = np.random.default_rng(1).standard_normal((3, 4, 3, 4))
    report = check_gradients(block, x, mode)
    assert report.undecidable == 0
    assert {check.name for check in report.arrays} == {"x", *block.parameters()}


@pytest.mark.parametrize("as_drawn", [False, True])
def test_gradients_of_the_whole_network_at_reduced_width(as_drawn):
    model = stirred(build(**SMALL, as_drawn=as_drawn)).to(dtype="float64")
    model.freeze(parameters=False, statistics=False)
    x = np.random.default_rng(1).standard_normal((4, 75, 75, 1))
    y, cache = model.forward(x, TRAIN)
    dx = model.backward(y, cache)
    assert (dx != 0).mean() > 0.9  # the gradient reaches the image
    report = check_gradients(model, x, TRAIN, elements=60)
    assert report.undecidable == 0


def test_convolutions_have_a_bias_where_no_batch_norm_follows():
    model = build(**SMALL, epsilon=2e-3, keep_prob=0.7)
    layers = [layer for _, layer, _ in model.walk((75, 75, 1))]
    biases = 0
    for layer, after in zip(layers, layers[1:], strict=False):
        if isinstance(layer, Conv2D):
            assert (layer.bias is None) == isinstance(after, BatchNorm)
            biases += layer.bias is not None
        if isinstance(layer, BatchNorm):
            assert layer.epsilon == 2e-3
            assert layer.gamma is None
    assert biases == 4  # one a block
    assert [layer.keep_prob for layer in layers if isinstance(layer, Dropout)] == [0.7]


def test_the_settings_build_the_same_network_again():
    model = build(repeats=[1, 0, 2], width=1 / 64, batch_norm_scale=True)
    again = model.architecture.build()
    assert again.architecture == model.architecture
    assert again.state().keys() == model.state().keys()
    assert any(name.endswith("gamma") for name in model.state())
    with pytest.raises(ValueError, match=r"inception_resnet_v2: repeats is 3, want three"):
        build(repeats=3)
    with pytest.raises(ValueError, match=r"inception_resnet_v2: width is -1, want a number above"):
        build(width=-1)


@pytest.mark.parametrize("as_drawn", [False, True])
def test_the_smallest_image_has_a_side_of_75(as_drawn):
    message = (
        r"inception_resnet_v2: an image of 74 × 90 is too small, its size runs out at mixed_7a\."
        r"branch0\.1\.conv \(Conv2D\(4, 6, 3×3\)\), whose input is 2 × 3: "
        r"the smallest square that works is 75 × 75"
    )
    with pytest.raises(ValueError, match=message):
        build(2, (74, 90, 3), **SMALL, as_drawn=as_drawn)
    model = build(2, (75, 75, 3), **SMALL, as_drawn=as_drawn)
    assert model.base.output_shape((75, 75, 3))[:2] == (1, 1)


def test_grey_and_coloured_images_and_any_number_of_classes():
    for classes, shape in [(2, (75, 80, 1)), (5, (107, 75, 4))]:
        model = build(classes, shape, **SMALL)
        x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
        y, cache = model.forward(x)
        assert y.shape == (2, *model.output_shape(shape)) == (2, classes)
        assert y.dtype == np.float32
        assert model.backward(y, cache).shape == x.shape
