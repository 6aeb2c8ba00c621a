"""``python -m tinynet.gradient_check``: what is printed, and exit statuses."""

import subprocess
import sys
import types

import numpy as np
import pytest

from tinynet.gradient_check.__main__ import drawn, main

KERNELS = """
import numpy as np
from tinynet.layers import ReLU

def forward(x, w, b):
    return x @ w + b, (x, w)

def backward(dy, cache):
    x, w = cache
    return dy @ w.T, x.T @ dy, dy.sum(axis=0)

def mean(dy, cache):
    x, w = cache
    return dy @ w.T, x.T @ dy, dy.mean(axis=0)

def pick(x, labels, scale, mask):
    rows = np.arange(len(x))
    return scale * mask * x[rows, labels], (x, rows, labels, scale, mask)

def picked(dy, cache):
    x, rows, labels, scale, mask = cache
    dx = np.zeros_like(x)
    dx[rows, labels] = scale * mask * dy
    return dx

class Pairs:
    forward, backward = staticmethod(forward), staticmethod(backward)

relu = ReLU()
"""


@pytest.fixture(autouse=True)
def kernels(tmp_path, monkeypatch):
    """The modules that are checked."""
    (tmp_path / "kernels.py").write_text(KERNELS, encoding="utf-8")
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n", encoding="utf-8")
    (tmp_path / "ending.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("kernels", None)


@pytest.mark.parametrize(
    ("line", "status", "printed"),
    [
        ("kernels:forward kernels:backward --args 4,3 3,5 5", 0, "right: the backward pass of"),
        ("--args 4,3 3,5 5 --seed 3 kernels:forward kernels:backward", 0, "right"),
        ("kernels:Pairs.forward kernels:Pairs.backward --args 1,2 2,1 1", 0, "right"),
        ("kernels:forward kernels:mean --args 4,3 3,5 5", 1, "N = 4 times too small"),
        (
            "kernels:pick kernels:picked --args 4,3 int:3:4 int:2 mask:4 --dtype float16",
            0,
            "(4, 3)  12 ",
        ),
        ("kernels:relu --args 4,3", 0, "right: the backward pass of ReLU"),
    ],
)
def test_what_is_named_is_checked(line, status, printed, capsys):
    assert main(line.split()) == status
    assert printed in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("kernels", "'kernels' is not MODULE:NAME, such as kernels:forward"),
        ("nowhere:forward kernels:backward --args 4", "module named 'nowhere': name the module as"),
        (
            "kernels.py:forward kernels:backward --args 4",
            "is not a package: name the module as for import",
        ),
        (
            "broken:forward kernels:backward --args 4",
            "named 'nothing_of_that_name' (broken.py, line 1); see",
        ),
        (
            "ending:forward kernels:backward --args 4",
            "ending:forward cannot be imported: SystemExit: 0",
        ),
        ("kernels:forwrd kernels:backward --args 4", "module 'kernels' has no attribute 'forwrd'"),
        ("kernels:forward", "the arguments begin with function, want forward, backward, arguments"),
        ("kernels:forward kernels:backward", "none of args is a float array"),
        ("kernels:forward kernels:backward --args 4,3 3,5", "missing 1 required positional"),
        ("kernels:forward kernels:backward --args 4,3 4,5 5", "(kernels.py, line 6)"),
        ("kernels:forward kernels:backward kernels:mean --args 4", "unknown arguments: kernels:m"),
        ("kernels:forward kernels:backward --arg 4", "unknown arguments: --arg"),
        ("kernels:forward kernels:backward --seed -1", "--seed: invalid"),
        ("kernels:forward kernels:backward --dtype int8", "--dtype: invalid choice: 'int8'"),
        ("--tuor", "unknown arguments: --tuor"),
    ],
)
def test_what_cannot_be_checked_ends_with_2_and_one_line(line, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    (printed,) = capsys.readouterr().err.splitlines()
    assert printed.startswith("error: ")
    assert said in printed
    assert printed.endswith("see python -m tinynet.gradient_check --help")


def test_arguments_are_what_they_spell():
    rng = np.random.default_rng(0)
    array = drawn("4,3", rng, "float32")
    assert (array.shape, array.dtype) == ((4, 3), "float32")
    labels = drawn("int:10:100", rng, "float32")
    assert set(labels.tolist()) == set(range(10))
    mask = drawn("mask:5,2", rng, "float32")
    assert (mask.shape, mask.dtype) == ((5, 2), "bool")
    values = [drawn(text, rng, "float32") for text in ("int:-2", "value:0.5", "value:'a:b'")]
    assert values == [-2, 0.5, "a:b"]
    assert drawn("value:None", rng, "float32") is None


@pytest.mark.parametrize(
    "text", ["", "4,", "0,3", "-1", "4x3", "3.5", "int:", "int:x", "int:0:3", "mask:", "m:3", ":"]
    + ["value:", "value:open('x')", "int:10:4:3", "1000000000,1000000000", "9" * 5000]
)  # fmt: skip
def test_what_spells_no_argument_is_refused_in_a_line(text):
    with pytest.raises(ValueError, match=r"^--args .*") as refused:
        drawn(text, np.random.default_rng(0), "float64")
    assert "\n" not in str(refused.value)


def test_the_command_line_explains_itself(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    for text in ("--tour", "MODULE:FORWARD", "int:10:4,3", "gradcheck(forward, backward, x, w, b)"):
        assert text in out


def test_the_tour_gets_the_arguments_that_are_its_own(monkeypatch):
    tour = types.ModuleType("tinynet.testing.tour")
    tour.main = lambda arguments: 7 if arguments == ["--no-input"] else 8
    monkeypatch.setitem(sys.modules, "tinynet.testing.tour", tour)
    assert main(["--tour", "--no-input"]) == 7


def test_the_module_runs_as_a_command():
    run = subprocess.run(
        [sys.executable, "-m", "tinynet.gradient_check", "--help"], capture_output=True, text=True
    )
    assert run.returncode == 0
    assert "--tour" in run.stdout
