import pytest

from tinynet.backend import use_reference


@pytest.fixture(scope="module", params=["kernels", "reference"], autouse=True)
def implementation(request):
    """Every test here runs twice: with the registered kernels, and with the references alone."""
    if request.param == "kernels":
        yield
    else:
        with use_reference():
            yield
