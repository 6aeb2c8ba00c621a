import sys
import threading
import types

import numpy as np
import pytest

from tinynet import backend
from tinynet.backend import (
    array_module,
    default_kernels,
    kernels_in_use,
    library_of,
    load_library,
    register,
    swappable,
    to_device,
    use_kernels,
    use_reference,
    without_numba,
)


class DeviceArray:
    """Stands in for cupy.ndarray: it says that it is CuPy's, and can be fetched."""

    def __init__(self, values):
        self.values = values

    def get(self):
        return self.values


DeviceArray.__module__ = "cupy"


@pytest.fixture
def cupy(monkeypatch):
    """A stand-in for the cupy module, so that moving arrays is tested without a GPU."""
    module = types.ModuleType("cupy")
    module.asarray = DeviceArray
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_arrays_of_numpy():
    x = np.ones(3)
    assert library_of(x) == "numpy"
    assert array_module(x) is np
    assert array_module(x, None, 2.0) is np
    assert array_module() is np
    assert to_device(x, "numpy") is x


def test_arrays_of_cupy(cupy):
    x = DeviceArray(np.ones(3))
    assert library_of(x) == "cupy"
    assert array_module(x, None) is cupy
    assert to_device(x, "cupy") is x
    assert to_device(x, "numpy") is x.values
    moved = to_device(np.zeros(2), "cupy")
    assert library_of(moved) == "cupy"
    assert moved.values.tolist() == [0, 0]


def test_mixed_libraries_are_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"NumPy and CuPy arrays in one call.*to_device\(x, 'cupy'"):
        array_module(np.ones(3), DeviceArray(np.ones(3)))


def test_unknown_library():
    with pytest.raises(ValueError, match="device is 'cuda', want 'numpy' or 'cupy'"):
        load_library("cuda")
    with pytest.raises(ValueError, match="device is 'cuda'"):
        to_device(np.ones(3), "cuda")
    for name, said in (("quick", "'quick', want one of reference"), ("reference", "'reference'")):
        with pytest.raises(ValueError, match=f"kernels are {said}"):
            register(swappable(lambda x: x), name)


def test_missing_cupy_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes the import fail
    with pytest.raises(ImportError, match="pip install cupy-cuda13x"):
        load_library("cupy")


def doubling():
    """A swappable function, and the calls that its replacement for NumPy answered."""

    @swappable
    def double(x):
        """Twice x."""
        return 2 * x

    calls = []

    @register(double, "numpy")
    def double_by_sum(x):
        calls.append(x)
        return x + x

    return double, double_by_sum, calls


def test_a_registered_kernel_replaces_its_reference():
    double, kernel, calls = doubling()
    assert double(np.ones(2)).tolist() == [2, 2]
    assert len(calls) == 1
    assert double.reference is not kernel
    assert double.reference(np.ones(2)).tolist() == [2, 2]
    assert len(calls) == 1
    assert double.kernels == {"numpy": kernel}


def test_a_swappable_function_keeps_its_name_and_docstring():
    double, _, _ = doubling()
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice x."


def test_the_first_argument_s_library_decides():
    double, _, calls = doubling()
    double.reference = None
    x = DeviceArray(np.ones(2))
    with pytest.raises(TypeError):  # no kernel for CuPy: the reference runs, 2 * DeviceArray
        double(x)
    assert not calls
    assert double(x=np.ones(2)).tolist() == [2, 2]
    assert len(calls) == 1


def test_use_reference_holds_inside_its_block_only():
    double, _, calls = doubling()
    with use_reference():
        double(np.ones(2))
        with use_reference():
            double(np.ones(2))
        double(np.ones(2))
    assert not calls
    double(np.ones(2))
    assert len(calls) == 1


def test_each_set_hands_on_what_it_lacks():
    double, by_sum, calls = doubling()
    compiled = []
    register(double, "fast")(lambda x: compiled.append(x) or x + x)  # the old name of "numba"
    assert set(double.kernels) == {"numpy", "numba"}
    for name, runs in (
        ("numpy", calls),
        ("numba", compiled),
        ("fast", compiled),
        ("cuda", compiled),
    ):
        with use_kernels(name):
            before = len(runs)
            double(np.ones(2))
            assert len(runs) == before + 1
    assert without_numba(double) is by_sum
    assert without_numba(swappable(abs)) is abs


def test_a_set_is_imported_at_its_first_use(monkeypatch):
    double, _, calls = doubling()
    loaded = []

    def load():
        loaded.append(1)
        register(double, "numba")(lambda x: -x)

    monkeypatch.setattr(backend, "_loaders", {})
    backend.load_at_first_use("numba", load)
    with use_kernels("numpy"):
        double(np.ones(1))
    assert (loaded, len(calls)) == ([], 1)
    assert [double(np.ones(1)).item() for _ in range(2)] == [-1, -1]
    assert loaded == [1]


def test_use_reference_ends_with_an_error_too():
    double, _, calls = doubling()
    with pytest.raises(ZeroDivisionError), use_reference():
        raise ZeroDivisionError
    double(np.ones(2))
    assert len(calls) == 1


def test_use_reference_leaves_other_threads_alone():
    double, _, calls = doubling()
    with use_reference():
        thread = threading.Thread(target=double, args=(np.ones(2),))
        thread.start()
        thread.join()
    assert len(calls) == 1


def test_every_kernel_has_a_reference_of_the_same_signature():
    import inspect

    from tinynet import layers
    from tinynet.engine.plan import epilogues

    backend.load_kernels("numba")
    replaced = 0
    for name, function in {**vars(layers), **vars(epilogues)}.items():
        for library, kernel in getattr(function, "kernels", {}).items():
            wanted = list(inspect.signature(function.reference).parameters)
            assert list(inspect.signature(kernel).parameters) == wanted, (name, library)
            replaced += 1
    assert replaced


@pytest.fixture
def no_choice_yet():
    default_kernels.cache_clear()
    yield
    default_kernels.cache_clear()


@pytest.mark.parametrize(
    ("variable", "chosen"),
    [(None, "numba"), ("", "numba"), ("numpy", "numpy"), ("fast", "numba"), ("cuda", "cuda")],
)
def test_the_environment_chooses_the_kernels(variable, chosen, monkeypatch, no_choice_yet):
    if variable is None:
        monkeypatch.delenv("TINYNET_KERNELS", raising=False)
    else:
        monkeypatch.setenv("TINYNET_KERNELS", variable)
    assert kernels_in_use() == chosen
    with use_kernels("reference"):
        assert kernels_in_use() == "reference"


def test_a_wrong_variable_is_named_with_the_choices(monkeypatch, no_choice_yet):
    monkeypatch.setenv("TINYNET_KERNELS", "quick")
    double, _, _ = doubling()
    wanted = "TINYNET_KERNELS is 'quick': unset it, or export one of reference, numpy, numba, cuda"
    with pytest.raises(ValueError, match=wanted):
        double(np.ones(2))
    with pytest.raises(ValueError, match="kernels are 'quick', want one of"), use_kernels("quick"):
        pass
