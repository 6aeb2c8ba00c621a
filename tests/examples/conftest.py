"""What the example's tests share: a small folder of images, the command line, no slow kernels."""

import pytest

from examples.mura import decode, run
from examples.mura.__main__ import main
from examples.mura.decode import read_square
from tests.examples import small_mura
from tests.examples.small_mura import make_mura
from tinynet.backend import use_kernels


@pytest.fixture(scope="module", autouse=True)
def numpy_kernels():
    """Nothing here tests kernels, and Numba's take seconds to compile."""
    with use_kernels("numpy"):
        yield


@pytest.fixture
def mura(tmp_path, monkeypatch):
    """A folder in MURA's layout, with the working directory beside it."""
    monkeypatch.chdir(tmp_path)
    return make_mura(tmp_path)


@pytest.fixture
def no_figures(monkeypatch):
    """Evaluation without its figures, which take longer than these networks' training."""
    monkeypatch.setattr(run, "write_figures", lambda *_: [])
    monkeypatch.setattr(run, "write_sheet", lambda *_: None)


@pytest.fixture(scope="session")
def published():
    """A data set with every published count of MURA-v1.1."""
    return small_mura.published()


@pytest.fixture
def decoded(monkeypatch):
    """The files that this process decodes, as they come."""
    files = []

    def noted(file, *settings):
        files.append(file)
        return read_square(file, *settings)

    monkeypatch.setattr(decode, "read_square", noted)
    return files


class CommandLine:
    """``cli("train", "--data", folder)`` runs a command and returns what it prints."""

    def __init__(self, capsys):
        self.capsys = capsys
        self.err = ""  # standard error of the last command

    def run(self, *arguments):
        """(exit status, standard output)."""
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as ended:  # argparse's way
            status = int(ended.code or 0)
        out, self.err = self.capsys.readouterr()
        return status, out

    def __call__(self, *arguments):
        status, out = self.run(*arguments)
        assert status == 0, self.err
        return out

    def error(self, *arguments):
        """The one line that a failing command ends with."""
        status, _ = self.run(*arguments)
        assert status in (1, 2)
        assert "Traceback" not in self.err
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        return errors[0]


@pytest.fixture
def cli(capsys):
    return CommandLine(capsys)
