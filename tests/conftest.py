"""What holds for all tests."""

import signal


def pytest_configure():
    """Lets Ctrl-C and a hangup reach the programs that tests start.

    A shell starts what runs in its background with SIGINT ignored, nohup what it runs
    with SIGHUP ignored, and every process below inherits that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
