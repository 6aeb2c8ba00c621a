"""A report as a picture."""

import sys

import numpy as np
import pytest

from tinynet.gradient_check import GradientError, check_backward, check_gradients
from tinynet.gradient_check.report import axes_of, lay_out
from tinynet.layers import Conv2D, ReLU, Sequential, relu_forward, sigmoid_forward

PNG = b"\x89PNG"
X = np.random.default_rng(0).standard_normal((2, 6, 6, 1))


def test_a_right_report_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    model = Sequential(Conv2D(1, 2, 3, rng=np.random.default_rng(0)), ReLU())
    check_gradients(model, X).picture(tmp_path / "right.png")
    assert (tmp_path / "right.png").read_bytes().startswith(PNG)


def test_a_wrong_report_is_drawn_with_nan_kinks_and_a_sample(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    x = X.copy()
    x[0, 0, 0, 0] = 0.0

    def backward(dy, above):
        dx = dy * above
        dx[1, 2, 3, 0], dx[1, 5] = np.nan, 7.0
        return dx

    for settings in ({}, {"elements": 60}):
        with pytest.raises(GradientError) as caught:
            check_backward(relu_forward, backward, (x,), **settings)
        caught.value.report.picture(tmp_path / "wrong.svg")
        svg = (tmp_path / "wrong.svg").read_text(encoding="utf-8")
        assert "<svg" in svg


def test_scalars_and_empty_arrays_are_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    for x in (np.array(0.5), np.zeros((0, 3)), np.zeros(4)):
        report = check_backward(sigmoid_forward, lambda dy, y: dy * y * (1 - y), (x,))
        report.picture(tmp_path / "small.png")
        assert (tmp_path / "small.png").read_bytes().startswith(PNG)


def test_each_example_and_channel_of_an_image_is_a_tile():
    a = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    plane = lay_out(a)
    assert plane.shape == (2 * 3, 5 * 4)
    assert np.array_equal(plane[3:6, 8:12], a[1, :, :, 2])
    assert np.array_equal(lay_out(a[0, 0]), a[0, 0])
    assert lay_out(a[0, 0, 0]).shape == (1, 5)
    assert lay_out(np.array(1.0)).shape == (1, 1)
    assert axes_of(4) == ((0, 1), (3, 2))


def test_without_matplotlib_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    report = check_gradients(ReLU(), X)
    with pytest.raises(ImportError, match="a picture needs matplotlib: pip install matplotlib"):
        report.picture(tmp_path / "no.png")
