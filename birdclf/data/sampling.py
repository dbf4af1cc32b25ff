"""Which recordings an epoch draws, and in which order."""

from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from birdclf.data.draws import occurrence

Numbers = NDArray[np.int64]


class Sampling(Protocol):
    """Chooses the draws of an epoch, as many as there are recordings.

    Attributes:
        balances: Whether classes are drawn otherwise than they occur.
    """

    balances: bool

    def order(self, target: Numbers, epoch: int, rng: Generator) -> Numbers:
        """Return the positions ``(n,)`` of an epoch's recordings, a pure function of what is given.

        Args:
            target: ``(n,)`` class of each recording.
            epoch: From 0.
            rng: Fresh generator of this epoch.
        """


class Natural:
    """Every recording once an epoch, shuffled."""

    balances = False

    def order(self, target: Numbers, epoch: int, rng: Generator) -> Numbers:
        """Return a permutation of the recordings."""
        return rng.permutation(len(target))


def within_classes(target: Numbers, classes: Numbers, rng: Generator) -> Numbers:
    """Return a recording for each draw of a class, going round and round through the class's recordings, shuffled.

    No recording of a class is drawn again before all of them were.

    Args:
        target: ``(n,)`` class of each recording.
        classes: ``(m,)`` class of each draw; each has a recording.
        rng: Source of the shuffles.

    Returns:
        ``(m,)`` positions in ``target``.
    """
    shuffled = rng.permutation(len(target))
    by_class = shuffled[np.argsort(target[shuffled], kind="stable")]
    counts = np.bincount(target)
    first = np.cumsum(counts) - counts
    return by_class[first[classes] + occurrence(classes) % counts[classes]]
