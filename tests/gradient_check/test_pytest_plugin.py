"""The pytest plugin, in runs of pytest beside this one."""

import configparser
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinynet.gradient_check import GradientError
from tinynet.gradient_check.choice import check_any
from tinynet.layer import Mode
from tinynet.layers import Dense, Dropout
from tinynet.losses import SoftmaxCrossEntropy

ROOT = Path(__file__).parents[2]
PLUGIN = "tinynet.gradient_check.pytest_plugin"
X = np.random.default_rng(1).standard_normal((4, 3))

TESTS = """
import numpy as np
import pytest
from tinynet.gradient_check import GradientError

x = np.random.default_rng(1).standard_normal((4, 3))

def square(x):
    return x * x, x

def backward(dy, x):
    return 2 * x * dy

def a_little_off(dy, x):
    return 2.002 * x * dy

def test_right(gradcheck):
    assert gradcheck(square, backward, x).ok

def test_wrong(gradcheck):
    gradcheck(square, backward, x)
    gradcheck(square, lambda dy, x: x * dy, x)  # the second

def test_raises(gradcheck):
    gradcheck(square, lambda dy, x: dy @ x, x)

def test_expected(gradcheck):
    with pytest.raises(GradientError, match="0.5 times what"):
        gradcheck(square, lambda dy, x: x * dy, x)

@pytest.mark.gradcheck(tolerance=0.01)
class TestMarked:
    def test_class(self, gradcheck):
        gradcheck(square, a_little_off, x)

    @pytest.mark.gradcheck(tolerance=1e-6)
    def test_nearer_marker(self, gradcheck):
        with pytest.raises(GradientError):
            gradcheck(square, a_little_off, x)
        gradcheck(square, a_little_off, x, tolerance=0.01)

def test_of_something_else():
    pass
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest on these files, with the plugin of this checkout."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def go(*options, **files):
        for name, text in files.items():
            pytester.makepyfile(**{name: text})
        return pytester.runpytest_subprocess("-p", PLUGIN, "-p", "no:randomly", *options)

    return go


def test_a_failure_is_the_line_of_the_test_and_the_report(run):
    result = run("-m", "gradcheck", "--strict-markers", "--gradcheck-seed", "7", test_mine=TESTS)
    result.assert_outcomes(passed=4, failed=2, deselected=1)
    out = result.stdout.str()
    for line in (
        ">       gradcheck(square, lambda dy, x: x * dy, x)  # the second",
        "WRONG: the backward pass of square / <lambda>",
        "the gradient of x is wrong in 12 of 12 elements",
        "backward raises ValueError, at 'gradcheck(square, lambda dy, x: dy @ x, x)'",
        "dy of --gradcheck-seed 7",
    ):
        assert line in out
    for file in ("check.py", "choice.py", "pytest_plugin.py", "During handling", "direct cause"):
        assert file not in out


def test_another_fixture_of_that_name_is_left_alone(run):
    conftest = "import pytest\n@pytest.fixture\ndef gradcheck():\n    return 'theirs'\n"
    theirs = "def test_theirs(gradcheck):\n    assert gradcheck == 'theirs'\n"
    result = run("-m", "not gradcheck", "-W", "error", conftest=conftest, test_theirs=theirs)
    result.assert_outcomes(passed=1)


def test_a_wrong_seed_is_refused(run):
    result = run("--gradcheck-seed", "-1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*--gradcheck-seed: invalid whole_number value: '-1'")


def test_an_installed_plugin_may_be_named_on_the_command_line_too(run, pytester):
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    entry = config["options.entry_points"]["pytest11"].strip()
    assert entry == f"{PLUGIN} = {PLUGIN}"
    installed = pytester.mkdir("tinynet_dl-1.dist-info")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: tinynet-dl\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{entry}\n")
    result = run("--markers")
    assert result.ret == 0
    assert result.stdout.str().count("@pytest.mark.gradcheck") == 1


def test_pytests_start_waits_for_nothing_of_ours():
    code = (
        f"import sys, pytest; before = set(sys.modules); import {PLUGIN}\n"
        "print(sorted(n for n in set(sys.modules) - before if not n.startswith('tinynet')))\n"
        "print(len([n for n in sys.modules if n.startswith('tinynet')]))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert out.stdout.splitlines() == ["[]", "5"], out.stderr


def drawn(seed):
    """The upstream gradient that a check with this seed uses, which is the identity's gradient."""
    report = check_any(lambda x: (x * 1, None), lambda dy, cache: dy * 1, X, seed=seed)
    return report.arrays[0].got


def test_a_seed_draws_another_upstream_gradient_but_never_the_arguments():
    assert (drawn(1) == drawn(1)).all()
    assert (drawn(None) == drawn(None)).all()
    others = [drawn(None), drawn(2), np.random.default_rng(1).standard_normal(X.shape)]
    assert not any((drawn(1) == other).any() for other in others)


def test_layers_models_and_losses_are_told_apart():
    dense = Dense(3, 2, rng=np.random.default_rng(0))
    assert [a.name for a in check_any(dense, X, seed=3).arrays] == ["x", "weight", "bias"]
    train = Mode(train=True, rng=np.random.default_rng(0))
    assert check_any(Dropout(0.5), X, train).ok
    loss = check_any(SoftmaxCrossEntropy(), X, np.array([0, 1, 2, 0]), seed=3, tolerance=1e-7)
    assert [a.name for a in loss.arrays] == ["z"]

    class TwiceTooLarge(Dense):
        def backward(self, dy, cache):
            return 2 * super().backward(dy, cache)

    with pytest.raises(GradientError, match="gradient of x is wrong"):
        check_any(TwiceTooLarge(3, 2, rng=np.random.default_rng(0)), X)


@pytest.mark.parametrize("given", [(X,), (np.sin,), (None, np.cos, X)])
def test_what_is_no_pair_no_layer_and_no_loss_is_refused(given):
    with pytest.raises(TypeError, match="want forward, backward, arguments...; function, arg"):
        check_any(*given)
