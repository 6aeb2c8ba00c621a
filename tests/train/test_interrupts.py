"""Signals that come in the middle of something wait for its end."""

import signal
import threading

import pytest

from tinynet.train.interrupts import held_interrupts


def test_ctrl_c_is_delivered_after_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with held_interrupts():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append("inside")
        done.append("after")
    assert done == ["inside"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_handler_of_another_signal_is_called_after_the_block(name, monkeypatch):
    if not hasattr(signal, name):
        pytest.skip(f"this system has no {name}")
    calls, number = [], getattr(signal, name)
    before = signal.signal(number, lambda number, frame: calls.append(number))
    try:
        with held_interrupts():
            signal.raise_signal(number)
            assert calls == []
        assert calls == [number]
    finally:
        signal.signal(number, before)


def test_a_signal_that_is_ignored_or_not_handled_keeps_its_meaning():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held_interrupts():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        signal.raise_signal(signal.SIGINT)


def test_the_handlers_are_put_back():
    with held_interrupts():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(ValueError, match="inside"), held_interrupts():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_does_nothing_in_another_thread():
    done = []

    def work():
        with held_interrupts():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]
