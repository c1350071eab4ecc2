"""What holds for all tests."""

import signal


def pytest_configure():
    """Lets Ctrl-C reach the programs that tests start.

    A shell starts what runs in its background with SIGINT ignored, and every process
    below inherits that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
