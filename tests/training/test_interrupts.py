"""The first Ctrl-C is noted, the second one acts."""

import signal

import pytest

from birdclf.training.callbacks.snapshot import Interrupts


def test_the_first_is_noted_and_the_second_stops_at_once(monkeypatch):
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupts = Interrupts()
        interrupts.take()
        signal.raise_signal(signal.SIGINT)
        assert interrupts.seen
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, usual)


def test_what_was_taken_is_given_back():
    usual = signal.getsignal(signal.SIGINT)
    interrupts = Interrupts()
    interrupts.take()
    assert signal.getsignal(signal.SIGINT) != usual
    interrupts.give_back()
    interrupts.give_back()
    assert signal.getsignal(signal.SIGINT) == usual and not interrupts.seen
