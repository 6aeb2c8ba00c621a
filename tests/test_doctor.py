"""``tinynet.doctor``: facts and advice, on stand-ins for machines with one fault each."""

import configparser
import math
import os
import platform
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from tinynet import doctor
from tinynet.backend import KERNEL_SETS, use_kernels
from tinynet.doctor import Advice, Device, machine_facts, read_gpu

SETUP = Path(__file__).parents[1] / "setup.cfg"
GB = 10**9


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch, tmp_path):
    """Four cores, 16 GB, OpenBLAS, no limits, nothing exported, and one repetition."""
    for name in doctor.SHOWN:
        monkeypatch.delenv(name, raising=False)
    psutil = SimpleNamespace(
        cpu_count=lambda logical: 4,
        getloadavg=lambda: (0.1, 0.1, 0.1),
        virtual_memory=lambda: SimpleNamespace(total=16 * GB, available=12 * GB),
    )
    cpuinfo = SimpleNamespace(get_cpu_info=lambda: {"brand_raw": "Example 9000"})
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    monkeypatch.setitem(sys.modules, "cpuinfo", cpuinfo)
    openblas = {"internal_api": "openblas", "version": "0.3.31", "user_api": "blas"}
    openblas |= {"architecture": "Haswell", "num_threads": 4}
    set_blas(monkeypatch, [openblas, {"user_api": "openmp"}])
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(doctor, "_usable", lambda: 4)
    monkeypatch.setattr(doctor, "thread_count", lambda: 4)
    monkeypatch.setattr(doctor, "CGROUP", tmp_path)
    monkeypatch.setattr(doctor, "REPEATS", 1)
    with use_kernels(KERNEL_SETS[-1]):
        yield psutil


def set_blas(monkeypatch, infos):
    module = SimpleNamespace(
        threadpool_info=lambda: infos, threadpool_limits=lambda limits, user_api: nullcontext()
    )
    monkeypatch.setitem(sys.modules, "threadpoolctl", module)


def facts(part):
    return dict(finding for finding in part() if not isinstance(finding, Advice))


def advice(part):
    return [(piece.found, piece.step) for piece in part() if isinstance(piece, Advice)]


# ---- facts


def test_facts_to_keep_with_measurements(monkeypatch):
    monkeypatch.setattr(doctor, "read_gpu", lambda: pytest.fail("CuPy was asked"))
    found = machine_facts()
    assert found["python"] == platform.python_version()
    assert found["processor"] == "Example 9000"
    assert found["cores"] == "4 logical, 4 physical, load 0.1"
    assert found["memory"] == "16.0 GB, 12.0 GB free"
    assert found["blas"] == "openblas 0.3.31, Haswell kernels, 4 threads"
    assert all(isinstance(text, str) and text for text in found.values())


@pytest.mark.parametrize("module", doctor.NEEDED)
def test_a_missing_library_is_named_with_what_is_unknown(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    ((found, step),) = advice(doctor.packages)
    assert found == f"{module} is not installed, so this report lacks {doctor.NEEDED[module]}"
    assert step == 'python -m pip install "tinynet-dl[doctor]"'


def test_it_runs_with_numpy_alone(monkeypatch, capsys):
    for module in (*doctor.NEEDED, "numba", "cupy"):
        monkeypatch.setitem(sys.modules, module, None)
    before = dict(os.environ)
    doctor.run()
    out = capsys.readouterr().out
    assert dict(os.environ) == before
    assert "memory      unknown" in out
    assert re.search(r"product     GFLOP/s: [\d.e+]+ \(", out), "not by threads"
    assert out.count("so this report lacks") == 3
    assert '-> python -m pip install --upgrade "tinynet-dl[fast]"' in out
    assert max(map(len, out.splitlines())) < 80


def test_a_processor_that_py_cpuinfo_does_not_know(monkeypatch):
    monkeypatch.setattr(sys.modules["cpuinfo"], "get_cpu_info", lambda: 1 / 0)
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert facts(doctor.processor)["processor"] == "unknown"


def test_optional_packages_are_those_of_setup_cfg():
    config = configparser.ConfigParser(interpolation=None)
    config.read(SETUP)
    extras = config["options.extras_require"]
    for extra in set(doctor.PACKAGES.values()):
        wanted = {re.split("[><=]", line)[0] for line in extras[extra].split()}
        assert {name for name, its in doctor.PACKAGES.items() if its == extra} == wanted


def test_a_quiet_machine_gets_no_advice(monkeypatch, capsys):
    pytest.importorskip("numba")
    monkeypatch.setattr(doctor, "read_gpu", lambda: doctor.Gpu(note="CuPy is not installed"))
    monkeypatch.setattr(doctor, "_product_time", lambda side, threads: 1 / threads)
    doctor.run()
    out = capsys.readouterr().out
    assert out.endswith("\n\nNothing was found that slows this machine down.\n")
    assert "GFLOP/s: 0.268 on 1 thread, 0.537 on 2 threads, 1.07 on 4 threads" in out


# ---- what slows a machine


@pytest.mark.parametrize("name", doctor.SLOWING)
def test_exported_variables_that_slow(monkeypatch, name):
    harmless, effect = doctor.SLOWING[name]
    monkeypatch.setenv(name, harmless)
    assert advice(doctor.environment) == []
    monkeypatch.setenv(name, "7")
    assert f"{name}=7" in facts(doctor.environment)["exported"]
    ((found, step),) = advice(doctor.environment)
    assert found == f"{name}=7 {effect}"
    assert step.startswith(f"unset {name}")


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
@pytest.mark.parametrize(
    ("value", "found"),
    [("1", "=1 leaves 3 of 4 cores unused"), ("9", "=9 on 4 cores: threads wait"), ("4", None)],
)
def test_more_and_fewer_threads_than_cores(monkeypatch, name, value, found):
    monkeypatch.setenv(name, value)
    assert [name + found in text for text, _ in advice(doctor.environment)] == [True] * bool(found)


def test_threads_of_a_library_that_is_not_loaded_do_not_matter(monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    assert advice(doctor.environment) == []


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_a_containers_limit_on_cores(tmp_path, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert ("container's limit" in facts(doctor.processor)["cores"]) == (quota is not None)
    steps = [step for _, step in advice(doctor.processor)]
    threads = math.ceil(quota or 0)
    assert steps == [f"export OMP_NUM_THREADS={threads}, or raise the limit"] * bool(quota)


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_containers_limit_on_memory(tmp_path, file):
    (tmp_path / "memory").mkdir()
    (tmp_path / file).write_text(f"{GB}\n")
    assert facts(doctor.memory)["memory"] == "1.0 GB, 1.0 GB free"
    assert advice(doctor.memory)[0][0] == "1.0 GB of memory are free"
    (tmp_path / file).write_text("max\n")
    assert facts(doctor.memory)["memory"] == "16.0 GB, 12.0 GB free"


@pytest.mark.parametrize(("name", "tuned"), [("blas", False), ("accelerate", True)])
def test_a_blas_that_threadpoolctl_does_not_know(monkeypatch, name, tuned):
    set_blas(monkeypatch, [])
    config = {"Build Dependencies": {"blas": {"name": name}}}
    monkeypatch.setattr(doctor.np, "show_config", lambda mode: config)
    assert facts(doctor.blas) == {"blas": name}
    assert (advice(doctor.blas) == []) == tuned


def test_slower_kernels_than_there_are():
    with use_kernels("numpy"):
        ((found, _),) = advice(doctor.kernels)
        assert facts(doctor.kernels)["kernels"] == "numpy, 4 threads"
    assert found == "TINYNET_KERNELS=numpy passes over faster kernels"


def test_kernels_that_do_not_exist(monkeypatch):
    def refuse():
        raise ValueError("TINYNET_KERNELS is 'quick'")

    monkeypatch.setattr(doctor, "kernels_in_use", refuse)
    assert advice(doctor.kernels) == [("TINYNET_KERNELS is 'quick'", "unset TINYNET_KERNELS")]


@pytest.mark.parametrize(
    ("error", "found", "runs"),
    [
        (ModuleNotFoundError("No module", name="numba"), "is not installed", "numpy"),
        (ImportError("Numba needs NumPy 2.3 or less"), "does not import: Numba needs", "none"),
        (ValueError("numpy.dtype size changed"), "does not import: numpy.dtype", "none"),
    ],
)
def test_numba_that_is_missing_or_broken(monkeypatch, error, found, runs):
    importing(monkeypatch, "numba", error)
    assert facts(doctor.kernels)["kernels"] == f"{runs}, 4 threads"
    assert found in advice(doctor.kernels)[0][0]


@pytest.mark.parametrize(
    ("load", "physical", "step"),
    [
        (2.0, 4, "stop"),
        (0.1, 2, "export OMP_NUM_THREADS=2, and compare"),
        (0.1, 4, "plug a laptop in"),
    ],
)
def test_two_threads_that_are_no_faster_than_one(monkeypatch, quiet_machine, load, physical, step):
    quiet_machine.getloadavg = lambda: (load, 0, 0)
    quiet_machine.cpu_count = lambda logical: physical
    monkeypatch.setattr(doctor, "_product_time", lambda side, threads: 0.02)
    monkeypatch.setattr(doctor, "_copy_time", lambda size, threads: 0.02)
    ((found, said),) = advice(doctor.rates)
    assert "two threads multiply 1.0 times as fast as one" in found
    assert said.startswith(step)


# ---- GPU

PACKAGES = {"cupy-cuda13x": "14.1.0", "ml-dtypes": "0.6.0"}
TOO_OLD = RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
NO_DEVICE = RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")


def importing(monkeypatch, name, found):
    """Let importing a module raise or return what is given."""
    load = doctor.importlib.import_module

    def importer(module):
        if module == name and isinstance(found, Exception):
            raise found
        return found if module == name else load(module)

    monkeypatch.setattr(doctor.importlib, "import_module", importer)


def asked(monkeypatch, module, packages=PACKAGES, driver=None):
    """read_gpu() where importing CuPy gives the module, or raises it."""
    importing(monkeypatch, "cupy", module)
    monkeypatch.setattr(doctor, "_installed", packages.get)
    monkeypatch.setattr(doctor, "_driver_of_a_gpu", lambda: driver)
    return read_gpu()


def cupy(devices=2, driver=13010, counting=None, compiling=None, capability=(9, 0)):
    """A module that answers as CuPy does, or raises ``counting`` or ``compiling``."""

    def answer(value, error=None):
        if error:
            raise error
        return value

    has = {"name": b"Example H1", "major": capability[0], "minor": capability[1]}
    runtime = SimpleNamespace(
        driverGetVersion=lambda: driver,
        getDeviceCount=lambda: answer(devices, counting),
        getDeviceProperties=lambda number: has,
        memGetInfo=lambda: (70 * GB, 80 * GB),
    )
    kernel = SimpleNamespace(compile=lambda: answer(None, compiling))
    cuda = SimpleNamespace(runtime=runtime, Device=lambda number: nullcontext())
    return SimpleNamespace(__version__="14.1.0", cuda=cuda, RawKernel=lambda *_: kernel)


def test_a_gpu_and_all_that_it_can(monkeypatch):
    gpu = asked(monkeypatch, cupy())
    assert gpu.devices == 2 * (Device("Example H1", 80 * GB, 70 * GB, (9, 0)),)
    assert (gpu.cupy, gpu.driver, gpu.compiles) == ("14.1.0", "13.1", True)
    assert gpu.precisions == ("fp32", "tf32", "bf16")
    assert (gpu.note, gpu.faults) == ("", ())
    assert len(read_gpu(at_most=1).devices) == 1
    said = facts(doctor.gpus)
    assert said["gpu"] == "Example H1, 80.0 GB, 70.0 GB free, compute capability 9.0"
    assert said["cuda"] == "driver for CUDA 13.1; CuPy 14.1.0 compiles kernels"


def test_tensor_cores_from_ampere_on_and_bf16_with_ml_dtypes(monkeypatch):
    old = asked(monkeypatch, cupy(capability=(7, 5)))
    assert (old.precisions, old.faults) == (("fp32",), ())
    gpu = asked(monkeypatch, cupy(capability=(8, 0)), {"cupy-cuda13x": "14.1.0"})
    assert gpu.precisions == ("fp32", "tf32")
    assert gpu.faults[0].step == "python -m pip install ml-dtypes"


@pytest.mark.parametrize(
    ("module", "note"),
    [
        (
            ModuleNotFoundError("No module", name="cupy"),
            "CuPy is not installed: with an NVIDIA GPU, pip install cupy-cuda13x or cupy-cuda12x",
        ),
        (RuntimeError("\n====\nCuPy is broken.\n===="), "CuPy does not import: CuPy is broken."),
        (cupy(0), "CuPy 14.1.0 finds no device"),
        (cupy(counting=NO_DEVICE), f"CuPy 14.1.0 finds no device: {NO_DEVICE}"),
        (
            cupy(driver=0, counting=TOO_OLD),
            "CuPy 14.1.0 finds no device: there is no NVIDIA driver",
        ),
    ],
)
def test_no_gpu_is_a_note_and_no_fault(monkeypatch, module, note):
    gpu = asked(monkeypatch, module)
    assert (gpu.note, gpu.devices, gpu.faults) == (note, (), ())
    assert facts(doctor.gpus) == {"gpu": note}


@pytest.mark.parametrize(
    ("driver", "step"),
    [
        (13000, 'python -m pip install "cupy-cuda13x[ctk]"'),
        (12080, 'python -m pip install "cupy-cuda12x[ctk]"'),
        (11080, "install a newer NVIDIA driver, for CUDA 12 at least"),
    ],
)
def test_a_gpu_without_cupy_gets_the_package_for_its_driver(monkeypatch, driver, step):
    missing = ModuleNotFoundError("No module named 'cupy'", name="cupy")
    assert asked(monkeypatch, missing, {}, driver).faults[0].step == step


@pytest.mark.parametrize("broken", [{"counting": TOO_OLD}, {"compiling": RuntimeError("no NVRTC")}])
def test_a_cupy_that_fails_is_replaced_by_the_one_for_the_driver(monkeypatch, broken):
    gpu = asked(monkeypatch, cupy(driver=12080, **broken), PACKAGES | {"cupy-cuda12x": "14"})
    assert not gpu.compiles
    assert gpu.faults[0].found.startswith("CuPy 14.1.0 fails with a driver for CUDA 12.8: ")
    assert gpu.faults[0].step == (
        "python -m pip uninstall cupy-cuda13x cupy-cuda12x; "
        'python -m pip install "cupy-cuda12x[ctk]"'
    )


def test_the_driver_can_be_asked_without_cupy():
    driver = doctor._driver_of_a_gpu()
    assert driver is None or driver >= 10000
