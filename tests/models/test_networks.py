"""What is peculiar to one network: where its strides, groups, gates, shortcuts and halves are."""

import numpy as np
import pytest

from tests.models.peers import TRAIN, build, images, layers_of, learned, stages, stirred
from tinynet.gradient_check import check_gradients
from tinynet.layers import Conv2D, Gate, LocalResponseNorm, ReLU
from tinynet.models.inception import BLOCK_17, added, turned
from tinynet.models.parts import Parts
from tinynet.models.resnet import padded_identity, squeeze_and_excitation
from tinynet.models.shufflenet_v2 import CHANNELS


def kinds(layer):
    return [type(part).__name__ for part in layer.layers]


def test_alexnets_two_towers_are_groups_that_the_third_convolution_joins():
    settings = {"width": 1 / 32, "hidden": 2}
    model = build("alexnet", 2, (67, 67, 1), **settings)
    assert [conv.groups for conv in layers_of(model, Conv2D).values()] == [1, 2, 1, 2, 2]
    assert len(layers_of(model, LocalResponseNorm)) == 2
    conv, normed = ["Conv2D", "ReLU"], ["LocalResponseNorm", "MaxPool2D"]
    assert kinds(model.base) == (conv + normed) * 2 + conv * 3 + ["MaxPool2D"]
    dense = ["Dense", "ReLU"]
    assert kinds(model.head) == ["Flatten", *(dense + ["Dropout"]) * 2, "Dense"]
    one = build("alexnet", 2, (67, 67, 1), **settings, one_tower=True)
    assert {conv.groups for conv in layers_of(one, Conv2D).values()} == {1}
    assert kinds(one.base) == (conv + ["MaxPool2D"]) * 2 + conv * 3 + ["MaxPool2D"]
    assert kinds(one.head) == ["Flatten", *(["Dropout"] + dense) * 2, "Dense"]
    for width in (1 / 100, 1 / 3):
        narrow = build("alexnet", 2, (67, 67, 1), width=width, hidden=2)
        assert all(conv.out_channels % 2 == 0 for conv in layers_of(narrow, Conv2D).values())


def test_vgg_like_is_blocks_of_two_convolutions_and_a_pool_then_two_dense_layers():
    def small(**settings):
        return build("vgg_like", 3, (9, 11, 2), (3, 4), 5, **settings)

    model = small(keep_prob=0.7)
    assert kinds(model.base) == ["Conv2D", "ReLU", "Conv2D", "ReLU", "MaxPool2D"] * 2
    assert kinds(model.head) == ["Flatten", "Dense", "ReLU", "Dropout", "Dense"]
    assert (
        kinds(small(batch_norm=True).base)
        == (["Conv2D", "BatchNorm", "ReLU"] * 2 + ["MaxPool2D"]) * 2
    )
    assert model.base.output_shape((9, 11, 2)) == (2, 2, 4)  # odd sizes lose their last row
    y, _ = model.forward(images((9, 11, 2)).astype(np.float32))
    assert (y < 0).any()  # logits, not probabilities
    assert all(np.array_equal(x, small().state()[name]) for name, x in model.state().items())
    with pytest.raises(ValueError, match=r"Conv2D\(2, 3, 3×3\): input is \(1, 9, 11, 1\)"):
        model.forward(np.zeros((1, 9, 11, 1), np.float32))


def test_signals_keep_their_size_through_vgg_likes_base():
    # He normal weights keep the variance through a ReLU; Glorot's would lose half at each
    model = build("vgg_like", 2, (32, 32, 1), (32, 64, 64), 64)
    h, _ = model.base.forward(images((32, 32, 1)).astype(np.float32))
    assert 0.3 < np.sqrt((h**2).mean()) < 5


@pytest.mark.parametrize(("stride_in", "convolution"), [("3x3", "conv2"), ("1x1", "conv1")])
def test_resnets_stride_is_in_one_convolution_of_a_stages_first_bottleneck(stride_in, convolution):
    model = build("resnet50", 2, (64, 64, 1), width=1 / 16, stride_in=stride_in)
    strided = [name for name, x in layers_of(model, Conv2D).items() if x.stride == (2, 2)]
    assert strided == [
        "base.conv1",
        *(
            f"base.layer{stage}.0.residual.{path}"
            for stage in (2, 3, 4)
            for path in (f"main.{convolution}", "skip.conv")
        ),
    ]


@pytest.mark.parametrize(
    ("name", "settings", "last", "count"),
    [
        ("resnet50", {"width": 1 / 16}, "main.bn3.gamma", 16),
        ("se_resnet50", {"width": 1 / 16}, "main.bn3.gamma", 16),
        ("small_resnet", {"depth": 8}, "main.bn2.gamma", 3),
    ],
)
def test_zero_last_gamma_starts_a_block_as_the_identity(name, settings, last, count):
    model = build(name, 2, (33, 33, 1), **settings, zero_last_gamma=True)
    zero = [n for n, p in model.parameters().items() if n.endswith("gamma") and not p.value.any()]
    assert len(zero) == count
    assert all(path.endswith(last) for path in zero)
    block = model.base.children()["layer1"].layers[-1 if name != "small_resnet" else 0]
    x = abs(images((4, 4, 16))).astype(np.float32)
    assert np.array_equal(block.forward(x, TRAIN)[0], x)


def test_se_resnet_is_a_resnet_50_with_a_gate_behind_each_bottleneck():
    plain = build("resnet50", 2, (32, 32, 1), width=1 / 16)
    gated = build("se_resnet50", 2, (32, 32, 1), width=1 / 16)
    shapes = {name: x.shape for name, x in gated.state().items()}
    rest = {name: shape for name, shape in shapes.items() if ".se." not in name}
    assert rest == {name: x.shape for name, x in plain.state().items()}
    gates = layers_of(gated, Gate)
    assert len(gates) == 16
    assert all(name.endswith("residual.main.se") for name in gates)


@pytest.mark.parametrize("reduction", [1, 3, 100])
def test_reduction_leaves_at_least_one_channel(reduction):
    model = build("se_resnet50", 2, (32, 32, 1), width=1 / 16, reduction=reduction)
    widths = {n: p.shape[1] for n, p in model.parameters().items() if n.endswith("fc1.weight")}
    assert widths["base.layer1.0.residual.main.se.path.fc1.weight"] == max(1, 16 // reduction)
    assert widths["base.layer4.2.residual.main.se.path.fc1.weight"] == max(1, 128 // reduction)


def test_the_gate_is_the_papers_equation():
    gate = squeeze_and_excitation(Parts(np.random.default_rng(0)), 8, 4).to(dtype="float64")
    for p in gate.parameters().values():
        p.value += 0.1 * np.random.default_rng(1).standard_normal(p.shape)
    x = images((5, 4, 8), 3)
    w1, b1, w2, b2 = (p.value for p in gate.parameters().values())
    assert w1.shape == (8, 2)
    z = x.sum(axis=(1, 2)) / 20
    s = 1 / (1 + np.exp(-(np.maximum(z @ w1 + b1, 0) @ w2 + b2)))
    np.testing.assert_allclose(gate.forward(x)[0], x * s[:, None, None, :], rtol=1e-12)


def test_plain_and_residual_networks_start_with_the_same_weights():
    plain, residual = (
        [
            p.value
            for p in build("small_resnet", 10, (8, 8, 1), 14, shortcuts=s).parameters().values()
        ]
        for s in (False, True)
    )
    assert all(np.array_equal(a, b) for a, b in zip(plain, residual, strict=True))


@pytest.mark.parametrize(("channels", "outputs", "stride"), [(3, 6, 2), (2, 7, 1), (4, 4, 2)])
def test_padded_identity_leaves_out_pixels_and_adds_channels_of_zeros(channels, outputs, stride):
    skip = padded_identity(channels, outputs, stride)
    x = images((5, 4, channels))
    y, _ = skip.forward(x)
    assert y.shape[1:] == skip.output_shape(x.shape[1:])
    assert np.array_equal(y[..., :channels], x[:, ::stride, ::stride])
    assert y.shape[-1] == outputs
    assert not y[..., channels:].any()
    assert skip.parameters() == {}
    assert check_gradients(skip, x).undecidable == 0


def test_fewer_filters_from_stage_to_stage_take_a_projection():
    model = build("small_resnet", 2, (8, 8, 1), 6, filters=(4, 3), projection=True)
    assert model.base.output_shape((8, 8, 1)) == (4, 4, 3)
    plain = build("small_resnet", 2, (8, 8, 1), 6, filters=(4, 3), shortcuts=False)
    assert plain.output_shape((8, 8, 1)) == (2,)


def test_a_dense_layer_keeps_its_input_and_adds_to_it():
    model = build("densenet121", 2, (29, 29, 1), width=1 / 16)
    layer = model.base.children()["denseblock1"].layers[1]
    x = images((4, 5, 6)).astype(np.float32)  # 4 channels, and 2 of the layer before
    y, _ = layer.forward(x, TRAIN)
    assert np.array_equal(y[..., :6], x)
    new, _ = layer.branches[1].forward(x, TRAIN)
    assert np.array_equal(y[..., 6:], new)
    assert new.shape == (2, 4, 5, 2)


def test_mobilenets_3x3_but_the_first_see_one_channel():
    for name, conv in layers_of(build("mobilenet", 2, (32, 32, 3), width=1 / 8), Conv2D).items():
        separate = conv.groups == conv.in_channels == conv.out_channels
        assert separate == (name != "base.conv1" and conv.kernel_size == (3, 3))


def test_half_of_the_channels_pass_through_a_shuffled_unit_unchanged():
    unit = build("shufflenet_v2", 2, (9, 9, 1), width=6 / 116).base.children()["stage2"].layers[1]
    x = images((4, 3, 6)).astype(np.float32)
    y, _ = unit.forward(x, TRAIN)
    assert np.array_equal(y[..., ::2], x[..., :3])  # the first half stands at the even places
    branch, _ = unit.children()["join"].branches[1].forward(x, TRAIN)
    assert np.array_equal(y[..., 1::2], branch)


@pytest.mark.parametrize("multiplier", CHANNELS)
def test_any_width_leaves_channels_that_can_be_halved(multiplier):
    for width in (0.01, 0.1, 0.33):
        model = build("shufflenet_v2", 2, (32, 32, 1), multiplier, width=width)
        assert all(shape[-1] % 2 == 0 for shape in stages(model, (32, 32, 1)).values())


SMALL = {"repeats": (1, 1, 1), "width": 1 / 64}


def test_turning_swaps_rows_and_columns_of_one_branch_and_nothing_else():
    block = {"a": [(1, 3), (2, (1, 7), 2, "valid"), {"c": (3, (3, 1))}], "b": (4, (1, 3))}
    want = {"a": [(1, 3), (2, (7, 1), 2, "valid"), {"c": (3, (1, 3))}], "b": (4, (1, 3))}
    assert turned(block, "a") == want
    assert turned(want, "a") == block


def test_as_drawn_turns_the_rows_and_columns_of_three_branches():
    released, drawn = (
        build("inception_v4", 2, (75, 75, 1), **SMALL, as_drawn=d) for d in (False, True)
    )
    assert learned(released) == learned(drawn)
    differ = {
        name.rsplit(".", 2)[0]: (p.shape[:2], drawn.parameters()[name].shape[:2])
        for name, p in released.parameters().items()
        if p.shape != drawn.parameters()[name].shape
    }
    row, column, short_row, short_column = (1, 7), (7, 1), (1, 3), (3, 1)
    assert differ == {
        "base.stem.4.branch1.1": (row, column),
        "base.stem.4.branch1.2": (column, row),
        "base.inception_b.0.branch2.1": (column, row),
        "base.inception_b.0.branch2.2": (row, column),
        "base.inception_b.0.branch2.3": (column, row),
        "base.inception_b.0.branch2.4": (row, column),
        "base.inception_c.0.branch2.1": (short_column, short_row),
        "base.inception_c.0.branch2.2": (short_row, short_column),
        "base.inception_c.0.branch2.3.a": (short_row, short_column),
        "base.inception_c.0.branch2.3.b": (short_column, short_row),
    }


def test_repeats_are_the_numbers_of_blocks():
    model = build("inception_v4", 2, (75, 75, 1), repeats=[2, 0, 3], width=1 / 64)
    assert [len(model.base.children()[f"inception_{kind}"].layers) for kind in "abc"] == [2, 0, 3]
    assert model.architecture.settings["repeats"] == (2, 0, 3)


def factors(**settings):
    """Stage -> (factor or None, whether a ReLU follows) of each of its blocks."""
    model = build("inception_resnet_v2", 2, (75, 75, 1), width=1 / 64, **settings)
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
    rest = {"block35": 2 * [(0.17, True)], "block17": [(0.10, True)]}
    scaled = (0.20, True)
    assert factors(repeats=(2, 1, 3)) == {**rest, "block8": [scaled, scaled, (None, False)]}
    assert factors(repeats=(2, 1, 3), as_drawn=True) == {**rest, "block8": 3 * [scaled]}
    assert factors(repeats=(0, 0, 0)) == dict.fromkeys(rest | {"block8": 0}, [])


def test_a_residual_inception_block_adds_a_part_of_what_its_branches_make():
    parts = Parts(np.random.default_rng(0), 1 / 48, 1e-3, gamma=False)
    block = stirred(parts(added(BLOCK_17, 0.25), 5)).to(dtype="float64")
    x = images((6, 5, 5))
    main = block.layers[0].main.children()
    f = main["conv2d"].forward(main["branches"].forward(x)[0])[0]
    assert np.allclose(block.forward(x)[0], np.maximum(x + 0.25 * f, 0), rtol=1e-12, atol=1e-12)
    assert main["conv2d"].bias is not None
