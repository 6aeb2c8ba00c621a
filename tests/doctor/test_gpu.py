"""What is said of a GPU, by modules that stand for CuPy: it is missing, idle or there."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from tinynet.doctor.gpu import read_gpu


def cupy(devices=(), driver=13000, failing=None):
    """A module that answers as CuPy does."""

    def count():
        if failing:
            raise failing
        return len(devices)

    runtime = SimpleNamespace(
        driverGetVersion=lambda: driver,
        getDeviceCount=count,
        getDeviceProperties=lambda number: {"name": devices[number]},
        memGetInfo=lambda: (70 * 10**9, 80 * 10**9),
    )
    cuda = SimpleNamespace(runtime=runtime, Device=lambda number: nullcontext())
    return SimpleNamespace(__version__="14.1.0", cuda=cuda)


def reading(module):
    """read_gpu() where importing CuPy gives the module, or raises it."""

    def load(name):
        assert name == "cupy"
        if isinstance(module, Exception):
            raise module
        return module

    return read_gpu(load)


def test_no_cupy_is_information_and_names_the_packages():
    gpu = reading(ModuleNotFoundError("No module named 'cupy'", name="cupy"))
    assert gpu.cupy is None
    assert "pip install cupy-cuda13x or cupy-cuda12x" in gpu.note


@pytest.mark.parametrize(
    "error",
    [
        ImportError("\n====\nCuPy is not correctly installed.\n===="),
        RuntimeError("CuPy is not correctly installed."),
    ],
)
def test_a_cupy_that_does_not_import_is_told_from_a_missing_one(error):
    assert reading(error).note == "CuPy does not import: CuPy is not correctly installed."


def test_no_device():
    error = RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    assert reading(cupy(failing=error)).note == f"CuPy 14.1.0 finds no device: {error}"
    assert reading(cupy()).note == "CuPy 14.1.0 finds no device"


def test_devices_with_names_driver_and_memory():
    gpu = reading(cupy(devices=(b"Example H1", "Example H2"), driver=12080))
    assert gpu.cupy == "14.1.0"
    assert gpu.driver == "12.8"
    assert gpu.devices == (
        ("Example H1", 80 * 10**9, 70 * 10**9),
        ("Example H2", 80 * 10**9, 70 * 10**9),
    )
    assert gpu.note == ""


def test_a_device_that_does_not_answer():
    module = cupy(devices=(b"Example",))
    module.cuda.runtime.memGetInfo = lambda: 1 / 0
    assert "does not answer: division by zero" in reading(module).note
