"""Ways to stop a training: in this process after a hook of a callback, or a process of its own by a signal."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Killed(BaseException):
    """What no handler of the program takes for its own."""


def stop_in(patch: pytest.MonkeyPatch, owner: type, hook: str, call: int) -> None:
    """Let a call of a callback's hook be the last thing that a process does, after the hook has done its work."""
    usual, calls = getattr(owner, hook), [0]

    def last(self: Any, trainer: Any, *arguments: Any, **named: Any) -> None:
        usual(self, trainer, *arguments, **named)
        calls[0] += 1
        if calls[0] == call:
            raise Killed

    patch.setattr(owner, hook, last)


@contextmanager
def training(words: Sequence[str], cwd: Path, said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``birdclf WORDS`` in a process group of its own, which is killed at the end of the block."""
    with open(said, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "birdclf", *map(str, words)],
            cwd=cwd,
            stdout=file,
            stderr=file,
            start_new_session=True,
            # A program that was started in the background may have been told to ignore them.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
