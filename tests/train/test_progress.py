"""What is shown: a bar on a terminal, lines elsewhere, or nothing."""

import io
import sys

import pytest

from tinynet.train.progress import Progress

ROW = {"epoch": 1, "train_loss": 0.51234, "validation_accuracy": 0.75, "seconds": 2.0}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal in place of standard error; made in the test, after pytest has put its own."""

    def made():
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        return terminal

    return made


def show(shown=True, mininterval=0.0):
    """The calls for figures."""
    calls = []
    with Progress(epochs=2, batches=50, shown=shown) as progress:
        if shown:
            progress.bar.mininterval = mininterval  # 0: every batch redraws it
        for _ in range(50):
            progress.batch(lambda: calls.append(1) or {"loss": 0.25, "accuracy": 0.9})
        progress.epoch(ROW)
    return calls


def test_a_pipe_gets_one_line_per_epoch(capsys):
    show()
    line = "epoch 1/2  train_loss 0.5123  validation_accuracy 0.75  (2.0 s, 00:02 left)\n"
    assert capsys.readouterr() == ("", line)


def test_silence(capsys, terminal):
    show(shown=False)
    assert capsys.readouterr() == ("", "")
    screen = terminal()
    show(shown=False)
    assert screen.getvalue() == ""


def test_a_terminal_gets_a_bar_with_loss_metric_and_time_left(terminal):
    screen = terminal()
    show()
    shown = screen.getvalue()
    assert "loss=0.2500, accuracy=0.9000" in shown
    assert "49/100" in shown
    assert "<" in shown.split("49/100")[1]  # tqdm's "elapsed<left"
    assert "train_loss 0.5123" in shown


def test_figures_are_not_computed_for_a_bar_that_is_not_redrawn(terminal):
    terminal()
    assert not show(mininterval=1e9)


def test_a_resumed_run_starts_where_it_stood(terminal):
    screen = terminal()
    with Progress(epochs=2, batches=50, done=60) as progress:
        assert progress.bar.n == 60
    assert " 60/100" in screen.getvalue()


@pytest.mark.parametrize("gone", [True, False])
def test_a_run_goes_on_when_its_terminal_or_pipe_has_gone(gone, terminal, monkeypatch):
    screen = terminal()

    def fail(*_):
        raise BrokenPipeError

    with Progress(epochs=1, batches=4) as progress:
        progress.batch(dict)
        screen.write = screen.flush = fail
        for _ in range(2):
            progress.epoch(ROW)
            progress.batch(dict)
    monkeypatch.setattr(sys, "stderr", None if gone else sys.stderr)
    with Progress(epochs=1, batches=4) as progress:
        progress.epoch(ROW)
