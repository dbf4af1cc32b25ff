"""Cores that this process may use, and whether other programs keep them busy."""

import os
import time
from pathlib import Path
from typing import Final, NamedTuple

STAT: Final = Path("/proc/stat")
SHORTEST_S: Final = 0.5
"""Seconds below which a measurement says nothing."""
ALONE: Final = "hydra._internal.core_plugins.basic_launcher."
"""The launcher that runs one job after the other, with all cores for each."""


def usable_cores() -> int:
    """Return the cores that this process may use: by its affinity, its container, and the launcher of its job.

    joblib and Ray share the cores out over the jobs that run at once by ``OMP_NUM_THREADS``, which a user of submitit
    sets.
    """
    from joblib import cpu_count  # knows the quotas of containers

    cores = int(cpu_count())
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(threads)) if _shares_cores() and threads.isdecimal() and int(threads) else cores


def _shares_cores() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized():
        return False
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and not str(hydra.launcher._target_).startswith(ALONE)


class Usage(NamedTuple):
    """CPU time in seconds up to a moment."""

    moment: float
    all: float  # of every process, on the cores that this process may use
    own: float  # of this process and those it has started that are over


class Neighbours:
    """Other programs on this process's cores, measured from one question to the next."""

    def __init__(self) -> None:
        self.before = usage()

    def remedy(self, threads: int) -> str | None:
        """Return a sentence if too few cores are free for the threads; None if not, or where the system does not say.

        Args:
            threads: Threads that compute together.
        """
        before, now = self.before, usage()
        if before is None or now is None or now.moment - before.moment < SHORTEST_S:
            return None
        self.before = now
        cores = len(os.sched_getaffinity(0))
        busy = (now.all - before.all - (now.own - before.own)) / (now.moment - before.moment)
        free = max(1, cores - int(busy + 0.3))
        if threads <= free:
            return None
        return (
            f"other programs keep {busy:.1f} of {cores} cores busy, so that {threads} threads wait for each other: a "
            f"step may take twice as long as with {free}. End those programs, or start this one again by "
            f"OMP_NUM_THREADS={free} birdclf …"
        )


def usage() -> Usage | None:
    """Return the CPU time so far; None where the system does not say."""
    try:
        names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in STAT.read_text().splitlines()]
        # user, nice, system, then idle and waiting for the disk, then interrupts
        ticks = [sum(map(int, (*words[1:4], *words[6:8]))) for words in lines if words[0] in names]
        all_s = sum(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):  # no /proc, or not Linux
        return None
    return Usage(time.monotonic(), all_s, sum(os.times()[:4]))


NEIGHBOURS: Final = Neighbours()
"""Measures from the import of this module, at the start of a command."""
