"""The number of a draw: which recording, in which epoch, and for the how manieth time in it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

EPOCHS: Final = 2**20
"""More than any training has; a recording's second draw in an epoch is numbered as one this many epochs later."""


def numbered(positions: Numbers, epoch: int, n: int) -> Numbers:
    """Return the numbers of an epoch's draws: draw d is of recording ``d % n``.

    Args:
        positions: ``(draws,)`` recordings in the order of the epoch, each below n, some perhaps more than once.
        epoch: From 0.
        n: Recordings.
    """
    return positions + n * (epoch + EPOCHS * occurrence(positions))


def taken_apart(draws: Numbers, n: int) -> tuple[Numbers, Numbers]:
    """Return of each draw the number of its recording's first draw in that epoch, and how often it came before."""
    again = draws // (n * EPOCHS)
    return draws - again * (n * EPOCHS), again


def occurrence(values: Numbers) -> Numbers:
    """Return of each entry of ``(m,)`` how many entries before it have its value."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.searchsorted(ordered, ordered)
    out = np.empty(len(values), dtype=np.int64)
    out[order] = np.arange(len(values)) - first
    return out
