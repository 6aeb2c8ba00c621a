"""Code that was kept is used again, and never after a source of the package changed."""

import importlib
import sys

import pytest

from tinynet.engine.kernels.numba import load
from tinynet.engine.kernels.numba.digest import DIGEST, digest

CALLED = """
from tinynet.engine.kernels.numba.compile import compiled

@compiled
def number():
    return {number}
"""
CALLING = """
from tinynet.engine.kernels.numba.compile import compiled
from kept.called import number

@compiled
def twice():
    return 2 * number()
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``kept`` of two modules, whose ``twice`` is compiled with its digest at a call."""
    compile_ = importlib.import_module("tinynet.engine.kernels.numba.compile")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr("numba.core.config.CACHE_DIR", "")  # which Numba read when it was imported
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "calling.py").write_text(CALLING)

    def twice(number):
        (folder / "called.py").write_text(CALLED.format(number=number))
        for name in [name for name in sys.modules if name.split(".")[0] == "kept"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        monkeypatch.setattr(compile_, "DIGEST", digest("kept"))
        return importlib.import_module("kept.calling").twice

    yield twice
    for name in [name for name in sys.modules if name.split(".")[0] == "kept"]:
        del sys.modules[name]


def test_a_change_in_another_file_is_seen(package):
    assert package(21)() == 42
    assert package(4)() == 8


def test_kept_code_is_found_again(package):
    package(21)()
    again = package(21)
    again()
    assert sum(again.stats.cache_hits.values()) == 1


def test_digest():
    assert len(DIGEST) == 8
    assert digest() == DIGEST
    assert digest("tinynet.engine.kernels.numpy") != DIGEST


def test_a_numba_that_does_not_compile_is_said_with_the_remedy(monkeypatch):
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    with pytest.raises(ImportError, match="NUMBA_DISABLE_JIT is set.*: unset it, or set TINYNET"):
        load()
    monkeypatch.setattr("numba.config.DISABLE_JIT", 0)
    for error, remedy in (
        ("cannot cache function 'f': no locator available", "set NUMBA_CACHE_DIR to a folder"),
        ("Number of threads specified must be > 0.", "pip install --upgrade numba"),
    ):

        def import_all(package, error=error):
            raise RuntimeError(error)

        monkeypatch.setattr("tinynet.engine.kernels.import_all", import_all)
        with pytest.raises(ImportError, match=f"Numba is installed .*{remedy}"):
            load()
