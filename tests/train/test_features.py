"""Features on disk: those of the base as it is, of the data as they are, or computed again."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.train.test_transfer import images, network
from tinynet.layers import BatchNorm, Conv2D, Flatten, ReLU, Residual, Sequential
from tinynet.train.checkpoint import CheckpointError
from tinynet.train.data import ArrayDataset
from tinynet.train.features import cached_features, layer_digest


@pytest.fixture
def base():
    model = network()
    model.base.freeze()
    return model.base


def features(base, data, folder, **options):
    return cached_features(base, data, folder, progress=False, **options)


def test_they_are_the_output_of_the_base(base, tmp_path):
    x, y = images()
    found = features(base, (x, y), tmp_path / "new" / "folder", batch_size=5)
    expected, _ = base.forward(x)
    np.testing.assert_allclose(found.x, expected, rtol=1e-12)
    assert found.x.dtype == expected.dtype
    assert isinstance(found.x, np.memmap)
    z, labels = found.batch(np.array([3, 1]), None)
    assert np.array_equal(z, found.x[[3, 1]])
    assert np.array_equal(labels, y[[3, 1]])
    assert np.array_equal(found.y, y)
    assert not found.reused


def test_they_are_computed_once(base, tmp_path, monkeypatch, capsys):
    data = images()
    first = cached_features(base, data, tmp_path)
    assert "computed in" in capsys.readouterr().err
    monkeypatch.setattr(type(base), "forward", None)  # running the base would fail
    second = cached_features(base, data, tmp_path, batch_size=7)
    assert f"found in {first.file}" in capsys.readouterr().err
    assert second.reused
    assert np.array_equal(first.x, second.x)
    assert [file.name for file in tmp_path.iterdir()] == [first.file.name]


CHANGES = {
    "a weight": lambda b: np.add(v := b.layers[0].weight.value, 1e-12, out=v),
    "a statistic": lambda b: np.add(v := b.layers[1].running_mean, 1e-12, out=v),
    "epsilon": lambda b: setattr(b.layers[1], "epsilon", 2 * b.layers[1].epsilon),
    "an activation": lambda b: b.layers.__setitem__(2, ReLU(0.1)),
    "a stride": lambda b: setattr(b.layers[0], "stride", (2, 2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_base_is_never_served_the_old_features(change, base, tmp_path):
    assert isinstance(base.layers[0], Conv2D)
    assert isinstance(base.layers[1], BatchNorm)
    old = features(base, images(), tmp_path)
    CHANGES[change](base)
    new = features(base, images(), tmp_path)
    assert not new.reused
    assert new.file != old.file
    np.testing.assert_allclose(new.x, base.forward(images()[0])[0], rtol=1e-12)


def test_other_images_are_never_served_the_old_features(base, tmp_path):
    x, y = images()
    features(base, (x, y), tmp_path)
    changed = x.copy()
    changed[-1, -1, -1] += 1e-12
    assert not features(base, (changed, y), tmp_path).reused
    assert not features(base, (x[:-1], y[:-1]), tmp_path).reused
    assert not features(base, (x[::-1], y), tmp_path).reused


def test_other_labels_are_no_reason_to_run_the_base(base, tmp_path):
    x, y = images()
    features(base, (x, y), tmp_path)
    again = features(base, (x, (y + 1) % 3), tmp_path)
    assert again.reused
    assert np.array_equal(again.y, (y + 1) % 3)


def test_a_dataset_is_read_without_augmentation(base, tmp_path):
    def augment(x, rng):
        raise AssertionError("augmented")

    found = features(base, ArrayDataset(*images(), augment), tmp_path)
    assert features(base, images(), tmp_path).reused
    assert len(found) == 22


@pytest.mark.parametrize(
    ("loose", "said"), [("parameters", "parameters"), ("statistics", "4 of its 4 batch-norm")]
)
def test_a_base_that_can_change_is_refused(loose, said, base, tmp_path):
    base.unfreeze(**{part: part == loose for part in ("parameters", "statistics", "dropout")})
    with pytest.raises(ValueError, match=rf"not frozen.*{said}.*freeze\(\) first"):
        features(base, images(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_half_written(base, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="cannot be written.*Free some space"):
        features(base, images(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing_half_written(base, tmp_path, monkeypatch):
    passes = []
    forward = type(base).forward

    def interrupted(self, x, mode):
        passes.append(1)
        if len(passes) == 3:
            raise KeyboardInterrupt
        return forward(self, x, mode)

    monkeypatch.setattr(type(base), "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        features(base, images(), tmp_path, batch_size=5)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(base, tmp_path):
    file = features(base, images(), tmp_path).file
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"is damaged .* delete it"):
        features(base, images(), tmp_path)


def test_the_key_is_the_same_in_another_process():
    code = (
        "from tests.train.test_transfer import network\n"
        "from tinynet.train.features import layer_digest\n"
        "print(layer_digest(network().base).hex())"
    )
    root = Path(__file__).parents[2]
    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "PYTHONHASHSEED": "17"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.strip() == layer_digest(network().base).hex()


def test_the_order_of_equal_layers_counts():
    conv = Conv2D(2, 2, 1, rng=np.random.default_rng(0))
    one = Sequential(conv, ReLU(), Flatten())
    two = Sequential(ReLU(), conv, Flatten())
    twice = Sequential(conv, ReLU(), conv, Flatten())
    beside = Residual(conv, conv)
    assert len({layer_digest(layer) for layer in (one, two, twice, beside, conv)}) == 5
