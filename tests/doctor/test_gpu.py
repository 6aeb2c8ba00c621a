"""What is said of a GPU, by modules that stand for CuPy: it is missing, idle or there."""

import os
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from tinynet.doctor.gpu import Device, read_gpu
from tinynet.doctor.gpu_packages import (
    Driver,
    compiler_fault,
    driver_of_a_gpu,
    duplicate_fault,
    fitting,
    misfit,
)

INSTALLED = {"cupy-cuda13x": "14.1.0", "ml-dtypes": "0.6.0"}
NO_NVRTC = (
    'Failure finding "libnvrtc.so.13 or libnvrtc.so.12": No such file: libnvrtc.so.13 or '
    "libnvrtc.so.12"
)  # CuPy 14.2's words, where none is
NO_HEADERS = (
    "/tmp/x.cu(1): catastrophic error: could not open source file "
    '"cuda_fp16.h" (no directories in search list)'
)


def cupy(devices=(), driver=13000, failing=None, capability=(9, 0), compiling=None):
    """A module that answers as CuPy does.

    failing     what counting the devices raises
    compiling   what compiling a kernel raises
    """

    def count():
        if failing:
            raise failing
        return len(devices)

    def compile():
        assert os.environ["CUPY_CACHE_IN_MEMORY"] == "1"  # else an old kernel would be found
        if compiling:
            raise compiling

    major, minor = capability
    runtime = SimpleNamespace(
        driverGetVersion=lambda: driver,
        getDeviceCount=count,
        getDeviceProperties=lambda n: {"name": devices[n], "major": major, "minor": minor},
        memGetInfo=lambda: (70 * 10**9, 80 * 10**9),
    )
    cuda = SimpleNamespace(runtime=runtime, Device=lambda number: nullcontext())
    kernel = SimpleNamespace(compile=compile)
    return SimpleNamespace(__version__="14.1.0", cuda=cuda, RawKernel=lambda *_: kernel)


def reading(module, installed=INSTALLED, driver_here=None):
    """read_gpu() where importing CuPy gives the module, or raises it."""

    def load(name):
        assert name == "cupy"
        if isinstance(module, Exception):
            raise module
        return module

    return read_gpu(load, installed.get, lambda: driver_here)


def missing():
    return ModuleNotFoundError("No module named 'cupy'", name="cupy")


def test_no_cupy_is_information_and_names_the_packages():
    gpu = reading(missing(), {})
    assert gpu.cupy is None
    assert gpu.note == "no CuPy: with an NVIDIA GPU, pip install cupy-cuda13x or cupy-cuda12x"
    assert gpu.faults == ()


@pytest.mark.parametrize(("driver", "wheel"), [(13000, "cupy-cuda13x"), (12080, "cupy-cuda12x")])
def test_no_cupy_on_a_machine_with_a_gpu_names_the_one_package(driver, wheel):
    gpu = reading(missing(), {}, Driver(driver))
    assert gpu.note == f"no CuPy: python -m pip install {wheel}"
    assert gpu.faults[0].step == f"python -m pip install {wheel}"
    assert gpu.driver in gpu.faults[0].found


@pytest.mark.parametrize(
    "error",
    [
        ImportError("\n====\nCuPy is not correctly installed.\n===="),
        RuntimeError("CuPy is not correctly installed."),
    ],
)
def test_a_cupy_that_does_not_import_is_told_from_a_missing_one(error):
    assert reading(error).note == "CuPy does not import: CuPy is not correctly installed."
    (fault,) = reading(error, driver_here=Driver(12080)).faults
    assert fault.step == "python -m pip install --force-reinstall cupy-cuda12x"


def test_no_device():
    error = RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    assert reading(cupy(failing=error)).note == f"CuPy 14.1.0 finds no device: {error}"
    assert reading(cupy()).note == "CuPy 14.1.0 finds no device"


def test_no_driver_is_not_called_one_that_is_too_old():
    """CuPy 14.2 answers 0 and this error where there is no driver at all."""
    error = RuntimeError(
        "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
    )
    gpu = reading(cupy(driver=0, failing=error))
    assert gpu.note == "CuPy 14.1.0 finds no device: there is no NVIDIA driver"
    assert gpu.faults == ()


def test_a_wheel_for_a_newer_cuda_than_the_drivers():
    gpu = reading(cupy(driver=12080, failing=RuntimeError("cudaErrorInsufficientDriver: ...")))
    assert gpu.note == (
        "CuPy 14.1.0 finds no device: cupy-cuda13x needs a driver for CUDA 13, this one is for 12.8"
    )
    assert gpu.faults[0].step == (
        "python -m pip uninstall cupy-cuda13x; python -m pip install cupy-cuda12x"
    )


def test_a_device_and_all_that_it_can():
    gpu = reading(cupy(devices=(b"Example H1", "Example H2"), driver=13010))
    assert (gpu.cupy, gpu.package, gpu.driver) == ("14.1.0", "cupy-cuda13x", "13.1")
    assert gpu.devices == (
        Device("Example H1", 80 * 10**9, 70 * 10**9, (9, 0)),
        Device("Example H2", 80 * 10**9, 70 * 10**9, (9, 0)),
    )
    assert gpu.compiles
    assert gpu.precisions == ("fp32", "tf32", "bf16")
    assert (gpu.note, gpu.faults) == ("", ())


@pytest.mark.parametrize(
    ("capability", "precisions"),
    [((7, 5), ("fp32",)), ((8, 0), ("fp32", "tf32", "bf16")), ((12, 0), ("fp32", "tf32", "bf16"))],
)
def test_tensor_cores_from_ampere_on(capability, precisions):
    assert reading(cupy(("Example",), capability=capability)).precisions == precisions


def test_bf16_needs_ml_dtypes_where_the_gpu_has_it():
    only_cupy = {"cupy-cuda13x": "14.1.0"}
    gpu = reading(cupy(("Example",)), only_cupy)
    assert gpu.precisions == ("fp32", "tf32")
    assert gpu.faults[0].step == "python -m pip install ml-dtypes"
    assert reading(cupy(("Example",), capability=(7, 5)), only_cupy).faults == ()


@pytest.mark.parametrize(
    ("problem", "wheel", "package"),
    [
        (RuntimeError(NO_NVRTC), "cupy-cuda13x", "nvidia-cuda-nvrtc"),
        (RuntimeError(NO_NVRTC), "cupy-cuda12x", "nvidia-cuda-nvrtc-cu12"),
        (RuntimeError(NO_HEADERS), "cupy-cuda13x", "nvidia-cuda-runtime"),
        (RuntimeError(NO_HEADERS), "cupy-cuda12x", "nvidia-cuda-runtime-cu12"),
        (RuntimeError("an odd one\nand more"), "cupy-cuda12x", '"cupy-cuda12x[ctk]"'),
        (KeyError(), "cupy-cuda13x", '"cupy-cuda13x[ctk]"'),
    ],
)
def test_a_kernel_that_does_not_compile_names_what_is_missing(problem, wheel, package):
    gpu = reading(cupy(("Example",), compiling=problem), INSTALLED | {wheel: "14"} if wheel in
                  INSTALLED else {wheel: "14", "ml-dtypes": "1"})  # fmt: skip
    assert gpu.compiles is False
    assert gpu.faults[0].step == f"python -m pip install {package}"
    assert "\n" not in gpu.faults[0].found
    assert "CUPY_CACHE_IN_MEMORY" not in os.environ


def test_a_misfit_comes_before_the_compiler():
    fault = reading(cupy(("E",), driver=12080, compiling=RuntimeError("no binary"))).faults[0]
    assert "cupy-cuda13x needs a driver for CUDA 13" in fault.found


def test_which_wheel_a_driver_runs():
    for driver, wheel in (
        (14000, "cupy-cuda13x"),
        (13000, "cupy-cuda13x"),
        (12040, "cupy-cuda12x"),
    ):
        assert fitting(Driver(driver)) == wheel
    assert misfit(["cupy-cuda12x"], Driver(13000)) is None
    assert misfit(["cupy"], Driver(12000)) is None  # the user built it
    assert "newer NVIDIA driver" in misfit(["cupy-cuda12x"], Driver(11080)).step


def test_two_wheels_at_once():
    fault = duplicate_fault(["cupy-cuda13x", "cupy-cuda12x"], Driver(12080))
    assert fault.step == (
        "python -m pip uninstall cupy-cuda13x cupy-cuda12x; python -m pip install cupy-cuda12x"
    )
    assert reading(cupy(("E",)), INSTALLED | {"cupy-cuda12x": "14"}).package is None


def test_a_cupy_of_the_users_own_goes_by_the_driver():
    fault = compiler_fault(RuntimeError(NO_NVRTC), ["cupy"], Driver(12080))
    assert fault.step == "python -m pip install nvidia-cuda-nvrtc-cu12"


def test_no_more_devices_are_looked_at_than_are_wanted():
    both = cupy(devices=("Example H1", "Example H2"))
    (only,) = read_gpu(lambda _: both, INSTALLED.get, at_most=1).devices
    assert only.name == "Example H1"


def test_a_device_that_does_not_answer():
    module = cupy(devices=(b"Example",))
    module.cuda.runtime.memGetInfo = lambda: 1 / 0
    assert "does not answer: division by zero" in reading(module).note


def test_the_driver_is_asked_without_cupy():
    """None without a GPU, else a version; it must not raise on either machine."""
    driver = driver_of_a_gpu()
    assert driver is None or driver >= 10000
