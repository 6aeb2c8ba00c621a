"""The extras are those of setup.cfg, and a broken package is told from a missing one."""

import configparser
import re
from pathlib import Path

from tinynet.doctor import packages
from tinynet.doctor.packages import (
    EXTRAS,
    compiled_kernels,
    import_problem,
    installed,
    read_packages,
    versions,
)
from tinynet.engine.kernels.numba.digest import DIGEST

DEVELOPERS = {"test", "oracle", "gpu-check", "lint"}
ON_THE_GPUS_LINE = {"gpu"}  # which says the one of its packages that fits the driver


def declared():
    """Extra -> its packages, of setup.cfg."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(Path(__file__).parents[2] / "setup.cfg", encoding="utf-8")
    return {
        extra: tuple(re.findall(r"^([\w-]+)", lines, re.M))
        for extra, lines in config["options.extras_require"].items()
    }


def test_every_extra_that_setup_declares_is_reported():
    for extra in declared().keys() - DEVELOPERS - ON_THE_GPUS_LINE:
        assert EXTRAS.get(extra) == declared()[extra]


def test_a_missing_package_has_no_version(monkeypatch):
    monkeypatch.setattr(packages, "EXTRAS", {"none": ("no-such-package-here",)})
    (package,) = read_packages()
    assert (package.version, package.problem) == (None, None)
    assert installed("numpy")


def test_numba_is_imported_and_what_it_says_is_kept(monkeypatch):
    monkeypatch.setattr(packages, "EXTRAS", {"fast": ("numba",)})
    monkeypatch.setattr(packages, "installed", lambda name: "0.60.0")
    monkeypatch.setattr(packages, "import_problem", lambda name: f"{name} is broken")
    assert read_packages()[0].problem == "numba is broken"


def test_an_import_that_fails_is_one_line():
    def fail(name):
        raise ImportError(f"{name} needs NumPy 2.0 or less\nand more")

    assert import_problem("numba", fail) == "ImportError: numba needs NumPy 2.0 or less"
    assert import_problem("json") is None


def test_versions():
    assert list(versions()) == ["tinynet", "Python", "NumPy", "SciPy"]


def test_compiled_functions_are_counted_where_numba_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert "no kernel compiled yet" in compiled_kernels()
    (tmp_path / "block_1").mkdir()
    for name in (
        f"a_{DIGEST}-1.py311",
        f"b_{DIGEST}-20.py311",
        "of_another_version_00000000-1.py311",
    ):
        (tmp_path / "block_1" / f"{name}.nbi").touch()
    assert compiled_kernels() == f"2 compiled functions kept in {tmp_path}"
