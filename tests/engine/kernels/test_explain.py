import sys

import numpy as np
import pytest

from tinynet import explain
from tinynet.backend import use_kernels
from tinynet.layers import Conv2D, Residual, Sequential
from tinynet.models import vgg_like

RNG = np.random.default_rng(0)


def table(model, shape, kernels):
    with use_kernels(kernels):
        first, _, head, _, *rows = explain(model, shape).splitlines()
    assert head.split()[:2] == ["layers", "input"]
    return first, rows


@pytest.fixture
def model():
    return vgg_like(2, (32, 32, 1), (16, 64), 8, rng=RNG)


def test_operations_and_algorithms_of_the_numpy_kernels(model):
    first, rows = table(model, (32, 32, 1), "numpy")
    assert first == "kernels: numpy"
    assert "base.0 " in rows[0]
    assert "Conv2D → ReLU " in rows[0]
    assert "Conv2D → ReLU → MaxPool2D " in rows[1]
    assert "Winograd F(4, 3) down the columns, NumPy" in rows[1]
    assert rows[1].endswith(" 0.5")
    assert "Winograd F(4×4, 3×3), NumPy" in rows[3]
    assert rows[3].endswith(" 0.25")
    assert len(rows) == 4 + 5


def test_the_compiled_kernels(model):
    pytest.importorskip("numba", reason='Numba is not installed: pip install ".[fast]"')
    first, rows = table(model, (32, 32, 1), "numba")
    assert first == "kernels: numba"
    assert "im2col in registers, compiled" in rows[0]
    assert all("Winograd F(4×4, 3×3), compiled" in row for row in rows[1:4])


def test_without_numba_it_says_how_to_get_it(model, monkeypatch):
    monkeypatch.setattr(sys.modules["tinynet.engine.kernels.explain"], "HAVE_NUMBA", False)
    first, rows = table(model, (32, 32, 1), "numba")
    assert first == ('kernels: numpy (Numba is not installed: pip install "tinynet-dl[fast]")')
    assert "NumPy" in rows[1]


def test_the_reference(model):
    first, rows = table(model, (32, 32, 1), "reference")
    assert first == "kernels: reference"
    assert all("the report's sum" in row for row in rows[:4])


def test_containers_groups_and_strides():
    model = Sequential(
        Conv2D(8, 8, 3, stride=2, padding=1, rng=RNG),
        Residual(Sequential(Conv2D(8, 8, 3, padding="same", groups=8, rng=RNG))),
        Conv2D(8, 8, 1, groups=2, rng=RNG),
    )
    _, rows = table(model, (9, 9, 8), "numpy")
    found = [" ".join(row.split("Conv2D")[1].split()) for row in rows]
    assert found == ["im2col, NumPy 1", "sums over the taps, NumPy 1", "im2col by groups, NumPy 1"]
