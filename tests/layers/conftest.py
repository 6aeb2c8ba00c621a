import pytest

from tinynet.backend import use_reference


@pytest.fixture(scope="session")
def torch():
    """torch as an oracle, on one thread: the layers' reference in float64."""
    module = pytest.importorskip(
        "torch", reason="torch is not installed: pip install torch==2.13.0"
    )
    module.set_num_threads(1)
    return module


@pytest.fixture(scope="module", params=["kernels", "reference"], autouse=True)
def implementation(request):
    """Every test here runs twice: with the registered kernels, and with the references alone."""
    if request.param == "kernels":
        yield
    else:
        with use_reference():
            yield
