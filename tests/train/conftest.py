import signal

import pytest


@pytest.fixture(autouse=True)
def signals_of_a_program():
    """Python's own handlers: a runner in the background may have left Ctrl-C ignored."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
