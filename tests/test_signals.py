"""Proves which signals stop a program, which the second time, and which never."""

import os
import signal

import pytest

from resnet50.signals import (
    STOP_SIGNALS,
    StopRequest,
    raise_if_stopped,
    stop_signals_handled,
)


def send(number):
    os.kill(os.getpid(), number)


def handlers():
    return [signal.getsignal(number) for number in STOP_SIGNALS]


@pytest.mark.parametrize("first", STOP_SIGNALS)
def test_the_first_signal_asks_and_the_second_ctrl_c_interrupts(first):
    before, stop = handlers(), StopRequest()
    with stop.caught():
        assert not stop.is_made
        send(first)
        assert stop.is_made
        send(signal.SIGTERM)
        send(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert handlers() == before


@pytest.mark.parametrize("first", STOP_SIGNALS)
def test_the_first_signal_interrupts_what_has_nothing_to_finish(first):
    stop = StopRequest(raises=True)
    with stop.caught():
        with pytest.raises(KeyboardInterrupt):
            send(first)
        send(signal.SIGTERM)
        send(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


@pytest.mark.parametrize("ignored", STOP_SIGNALS)
def test_what_is_ignored_stays_ignored(ignored):
    before = signal.signal(ignored, signal.SIG_IGN)
    try:
        stop = StopRequest(raises=True)
        with stop_signals_handled(signal.SIG_DFL), stop.caught():
            send(ignored)
            assert not stop.is_made
        assert signal.getsignal(ignored) == signal.SIG_IGN
    finally:
        signal.signal(ignored, before)


class StoppedAtItsEnd:
    """A stop signal comes while Python runs its destructor, which loses exceptions."""

    def __del__(self):
        send(signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_is_not_lost_in_a_destructor():
    with StopRequest(raises=True).caught():
        raise_if_stopped()
        StoppedAtItsEnd()
        with pytest.raises(KeyboardInterrupt) as caught:
            raise_if_stopped()
        assert caught.value.args == (signal.SIGTERM,)
        # What begins now, such as the training loop, has nothing to do.
        inner = StopRequest()
        with inner.caught():
            assert inner.number == signal.SIGTERM
    raise_if_stopped()
    assert not StopRequest().is_made


def test_a_request_does_not_outlive_its_block():
    with StopRequest().caught():
        send(signal.SIGTERM)
    later = StopRequest()
    with later.caught():
        assert not later.is_made
        raise_if_stopped()
