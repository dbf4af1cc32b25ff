"""Programs that run in turns on one machine, so that other load slows them all alike."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median


class Program:
    """A running program that writes a line of numbers to a file at the end of each of its steps.

    It gets a process group of its own, so that its worker processes are paused and resumed with it.

    Args:
        command: What to run.
        lines: File that it writes; ``None`` for its standard output.
        log: File for the rest of its output.
    """

    def __init__(self, command: list[str], log: Path, lines: Path | None = None) -> None:
        self.command, self.lines, self.log = command, lines or log.with_suffix(".out"), log
        with open(log, "w") as errors, open(log.with_suffix(".out"), "w") as output:
            self.process = subprocess.Popen(
                command, cwd=Path(__file__).parent, stdout=output, stderr=errors, start_new_session=True
            )

    def read(self, n: int) -> list[list[float]]:
        """Return the numbers of all lines, as soon as there are ``n``."""
        while True:
            written = self.lines.read_text().split("\n")[:-1] if self.lines.exists() else []
            if len(written) >= n:
                return [[float(word) for word in line.split()] for line in written]
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"{' '.join(self.command)} ended with {self.process.returncode} after {len(written)} steps:\n"
                    f"{self.log.read_text()}"
                )
            time.sleep(0.01)

    def stop(self) -> None:
        """Pause it."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go(self) -> None:
        """Resume it."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        """End it with its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running(program: Program) -> Iterator[Program]:
    """End a program when the block is left."""
    try:
        yield program
    finally:
        program.end()


def in_turns(
    sides: Mapping[str, Callable[[], Program]], warmup: int, rounds: int, steps: int
) -> list[dict[str, float]]:
    """Return the seconds of a step of each side, a dict a round.

    Args:
        sides: Start programs that write the time (``time.perf_counter``) of the end of each step.
        warmup: Steps of each before the first round.
        rounds: Number of turns of each.
        steps: Steps of a turn, whose median counts, after one more in which it was paused.
    """
    with contextlib.ExitStack() as stack:
        programs = {}
        for name, start in sides.items():
            programs[name] = stack.enter_context(running(start()))
            programs[name].read(warmup)
            programs[name].stop()
        table = []
        for i in range(rounds):
            begin = warmup + i * (1 + steps)
            row = {}
            for name, program in programs.items():
                program.go()
                ends = [line[0] for line in program.read(begin + 1 + steps)[begin : begin + 1 + steps]]
                program.stop()
                row[name] = median(b - a for a, b in zip(ends, ends[1:], strict=False))
            table.append(row)
        return table


def rates_in_turns(
    sides: Mapping[str, Callable[[], Program]], warmup: int, rounds: int, seconds: float
) -> list[dict[str, float]]:
    """Return the rate of each side in items per second, a dict a round.

    Args:
        sides: Start programs that write lines of the time (``time.perf_counter``) and the number of finished items.
        warmup: Items of each before the first round.
        rounds: Number of turns of each.
        seconds: Length of a turn; the first line of a turn does not count.
    """
    with contextlib.ExitStack() as stack:
        programs = {}
        for name, start in sides.items():
            programs[name] = stack.enter_context(running(start()))
            lines = 1
            while programs[name].read(lines)[-1][1] < warmup:
                lines += 1
            programs[name].stop()
        table = []
        for _ in range(rounds):
            row = {}
            for name, program in programs.items():
                before = len(program.read(0))
                program.go()
                time.sleep(seconds)
                program.stop()
                turn = program.read(before + 3)[before + 1 :]
                (begin, first), (end, last) = turn[0], turn[-1]
                row[name] = (last - first) / (end - begin)
            table.append(row)
        return table
