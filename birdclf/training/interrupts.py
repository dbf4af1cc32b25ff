"""Ctrl-C in training: the first one waits for the step at hand."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """Notes a first Ctrl-C; a second one stops at once, as always.

    Attributes:
        seen: Whether one has come.
    """

    def __init__(self) -> None:
        self.seen = False
        self.before: Any = None

    def take(self) -> None:
        """Take Ctrl-C over from whoever has it."""
        if threading.current_thread() is threading.main_thread():  # only there may signals be set
            self.before = signal.signal(signal.SIGINT, self._note)

    def give_back(self) -> None:
        """Give it back."""
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)
            self.before = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        self.give_back()
