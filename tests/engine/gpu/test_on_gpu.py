"""What only a GPU shows: many steps in each precision, every architecture, memory that is not ours.

``python -m pytest -m gpu`` runs this, and every test of kernels on the GPU as well.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.engine.gpu.test_on_cupy import SIDES
from tinynet.backend import to_device
from tinynet.doctor import read_gpu
from tinynet.layer import Mode
from tinynet.losses import SoftmaxCrossEntropy, WithAuxiliary
from tinynet.models import vgg_like
from tinynet.models.architecture import ARCHITECTURES, Architecture
from tinynet.optimizers import SGD, Adam
from tinynet.train.step import TrainStep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not read_gpu().devices, reason="there is no NVIDIA GPU with CuPy"),
]
STEPS = 50


def network(batch_norm):
    how = {"batch_norm": batch_norm, "rng": np.random.default_rng(0)}
    return vgg_like(3, (32, 32, 1), (16, 32), 32, **how)


def examples(count=64):
    """Images whose class shows: where it is bright."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((count, 32, 32, 1)), rng.integers(0, 3, count)
    for image, label in zip(x, y, strict=True):
        image[10 * label : 10 * label + 10] += 0.5
    return x, y


def losses(device, dtype, precision, batch_norm, optimizer):
    x, y = examples()
    model = network(batch_norm).to(device, dtype)
    step = TrainStep(model, SoftmaxCrossEntropy(), optimizer, seed=3, precision=precision)
    order = np.random.default_rng(2)
    chosen = [order.permutation(len(x))[:16] for _ in range(STEPS)]
    return [step(x[i].astype(dtype), y[i]) for i in chosen], step


# How far the losses, which begin at 2 to 3, may be from NumPy's in float64: the first ten, and all.
# A maximum or a ReLU that falls the other way by rounding sends two runs apart: NumPy's own float32
# is 1e-5 away after ten steps and 4e-4 after fifty.
TOLERANCES = {
    ("float64", "fp32"): (1e-9, 1e-6),
    ("float32", "fp32"): (1e-4, 5e-3),
    ("float32", "tf32"): (1e-2, 5e-2),
    ("float32", "bf16"): (6e-2, 0.2),
}


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("dtype", "precision"), TOLERANCES)
def test_many_steps_follow_float64(dtype, precision, batch_norm):
    want, _ = losses("numpy", "float64", "fp32", batch_norm, Adam(3e-4))
    got, step = losses("cupy", dtype, precision, batch_norm, Adam(3e-4))
    assert want[-1] < 0.3 * want[0]
    first, all_ = TOLERANCES[dtype, precision]
    np.testing.assert_allclose(got[:10], want[:10], atol=first)
    np.testing.assert_allclose(got, want, atol=all_)
    assert step._step.graphs._steps  # a graph, not kernel by kernel
    assert all(s.run._graph is not None for s in step._step.graphs._steps.values())


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_the_same_bits_in_every_run(precision):
    found = []
    for _ in range(2):
        values, step = losses("cupy", "float32", precision, True, Adam(1e-3))
        state = step.model.state() | step.optimizer.state()
        found.append((values, {name: to_device(a, "numpy") for name, a in state.items()}))
    assert found[0][0] == found[1][0]
    for name, array in found[0][1].items():
        np.testing.assert_array_equal(found[1][1][name], array, err_msg=name)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures(name):
    """Outputs outside training and three steps' losses, of an eighth of the filters, in float32."""
    side = SIDES.get(name, 64)
    settings = {"num_classes": 3, "input_shape": (side, side, 3)}
    if name not in ("vgg_like", "small_resnet"):
        settings["width"] = 1 / 8
    x = np.random.default_rng(1).standard_normal((2, side, side, 3)).astype("float32")
    y = np.array([0, 2])
    outputs, values = [], []
    for device in ("numpy", "cupy"):
        model = Architecture(name, settings).build().to(device)
        z, _ = model.forward(to_device(x, device), Mode())
        outputs.append(to_device(z[0] if isinstance(z, tuple) else z, "numpy"))
        step = TrainStep(model, WithAuxiliary(SoftmaxCrossEntropy()), SGD(1e-3), seed=1)
        values.append([step(x, y) for _ in range(3)])
    largest = abs(outputs[0]).max()
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-3 * largest)
    np.testing.assert_allclose(values[1], values[0], rtol=0.02)


SANITIZER = shutil.which("compute-sanitizer") or shutil.which(
    "/usr/local/cuda/bin/compute-sanitizer"
)


@pytest.mark.skipif(SANITIZER is None, reason="compute-sanitizer (of the CUDA toolkit) is missing")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck"])
def test_compute_sanitizer_has_nothing_to_say(tool, tmp_path):
    """Over one training step of every kind of kernel, in a process of its own."""
    program = tmp_path / "step.py"
    program.write_text(
        "import numpy as np\n"
        "from tests.engine.gpu.test_step import data, network\n"
        "from tinynet.losses import SoftmaxCrossEntropy\n"
        "from tinynet.optimizers import Adam\n"
        "from tinynet.train.step import TrainStep\n"
        "for precision in ('fp32', 'tf32', 'bf16'):\n"
        "    model = network('float32').to('cupy')\n"
        "    step = TrainStep(model, SoftmaxCrossEntropy(), Adam(0.01), precision=precision)\n"
        "    for i in range(2):\n"
        "        step(*data(dtype='float32', seed=i))\n",
        encoding="utf-8",
    )
    root = Path(__file__).parents[3]
    command = [SANITIZER, "--tool", tool, "--error-exitcode", "9", sys.executable, str(program)]
    environment = {**os.environ, "PYTHONPATH": str(root), "CUPY_CACHE_IN_MEMORY": "0"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=root, env=environment, timeout=500
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
