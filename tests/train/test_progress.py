"""What is shown: a bar on a terminal, lines elsewhere, or nothing."""

import io
import sys

from tinynet.train.progress import Progress

ROW = {"epoch": 1, "train_loss": 0.51234, "validation_accuracy": 0.75, "seconds": 2.0}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def pretend_terminal(monkeypatch):
    """Put a terminal in place of standard error; called in the test, after pytest put its own."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    return terminal


def show(shown=True, mininterval=0.0):
    with Progress(epochs=2, batches=50, shown=shown) as progress:
        progress.bar.mininterval = mininterval  # so that every batch redraws it
        for _ in range(50):
            progress.batch(lambda: {"loss": 0.25, "accuracy": 0.9})
        progress.epoch(ROW)


def test_a_pipe_gets_one_line_per_epoch(capsys):
    show()
    out, err = capsys.readouterr()
    assert out == ""
    line = "epoch 1/2  train_loss 0.5123  validation_accuracy 0.75  (2.0 s, 00:02 left)\n"
    assert err == line


def test_silence(capsys, monkeypatch):
    show(shown=False)
    assert capsys.readouterr() == ("", "")
    terminal = pretend_terminal(monkeypatch)
    show(shown=False)
    assert terminal.getvalue() == ""


def test_a_terminal_gets_a_bar_with_loss_metric_and_time_left(monkeypatch):
    terminal = pretend_terminal(monkeypatch)
    show()
    shown = terminal.getvalue()
    assert "loss=0.2500, accuracy=0.9000" in shown
    assert "49/100" in shown
    assert "<" in shown.split("49/100")[1]  # tqdm's "elapsed<left"
    assert "train_loss 0.5123" in shown


def test_figures_are_not_computed_for_a_bar_that_is_not_redrawn(monkeypatch):
    pretend_terminal(monkeypatch)
    calls = []
    with Progress(epochs=1, batches=50) as progress:
        progress.bar.mininterval = 1e9
        for _ in range(50):
            progress.batch(lambda: calls.append(1) or {})
    assert not calls


def test_a_resumed_run_starts_where_it_stood(monkeypatch):
    terminal = pretend_terminal(monkeypatch)
    with Progress(epochs=2, batches=50, done=60) as progress:
        assert progress.bar.n == 60
    assert " 60/100" in terminal.getvalue()
