"""Samplers, which choose the order in which an epoch draws the recordings of the train split."""

import math
from abc import ABC, abstractmethod
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from birdclf.checks import is_number, require

Numbers = NDArray[np.int64]

EPOCHS: Final = 2**20
"""More than any training has; a recording's second draw in an epoch is numbered like one this many epochs later."""


def number_draws(positions: Numbers, epoch: int, n: int) -> Numbers:
    """Return the numbers ``(draws,)`` of an epoch's draws of n recordings: draw d is of recording ``d % n``."""
    return positions + n * (epoch + EPOCHS * occurrence(positions))


def split_draws(draws: Numbers, n: int) -> tuple[Numbers, Numbers]:
    """Return for each draw the number of its recording's first draw in that epoch, and the number of earlier ones."""
    again = draws // (n * EPOCHS)
    return draws - again * (n * EPOCHS), again


def occurrence(values: Numbers) -> Numbers:
    """Return for each entry of ``(m,)`` the number of earlier entries with the same value."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.searchsorted(ordered, ordered)
    out = np.empty(len(values), dtype=np.int64)
    out[order] = np.arange(len(values)) - first
    return out


class Sampler(ABC):
    """Chooses the draws of an epoch, as many as there are recordings.

    Attributes:
        balances: Whether classes are drawn with other frequencies than they occur.
    """

    balances: bool = False

    @abstractmethod
    def order(self, target: Numbers, epoch: int, rng: Generator) -> Numbers:
        """Return positions ``(n,)`` of an epoch's recordings of classes ``target`` ``(n,)``, a pure function.

        Of a recording of several classes ``target`` has the primary one.
        Epochs count from 0; ``rng`` is a new generator of this epoch.
        """

    def cut_short(self, epochs: int, max_epochs: int) -> str | None:
        """Return which part of its schedule a training that ended early has missed; None for nothing."""
        return None


class Natural(Sampler):
    """Every recording once an epoch, shuffled."""

    def order(self, target: Numbers, epoch: int, rng: Generator) -> Numbers:
        """Return a permutation of the recordings."""
        return rng.permutation(len(target))


def within_classes(target: Numbers, classes: Numbers, rng: Generator) -> Numbers:
    """Return positions ``(m,)`` in ``target`` ``(n,)``, a recording for each draw of ``classes`` ``(m,)``.

    Each class, which must have a recording, cycles through its shuffled recordings.
    """
    shuffled = rng.permutation(len(target))
    by_class = shuffled[np.argsort(target[shuffled], kind="stable")]
    counts = np.bincount(target)
    first = np.cumsum(counts) - counts
    return by_class[first[classes] + occurrence(classes) % counts[classes]]


class Power(Sampler):
    """Draws class j with a probability proportional to ``n_j ** q`` (Kang et al., 2020, equation 1).

    An epoch has the expected number of draws of each class, rounded up or down at random, which varies less than
    independent draws; with q 1 each recording is drawn exactly once.

    Args:
        q: 1 as they occur, 0.5 the square root, 0 balanced; 0 to 1.

    Raises:
        UserError: If ``q`` is out of range.
    """

    def __init__(self, q: float = 0.5) -> None:
        require(is_number(q) and 0 <= q <= 1, "sampler.q", q, "between 0 (balanced) and 1 (as they occur)")
        self.q, self.balances = float(q), q != 1

    def order(self, target: Numbers, epoch: int, rng: Generator) -> Numbers:
        """Return the positions of an epoch's recordings."""
        return sample_by_power(target, self.q, rng)


class Progressive(Sampler):
    """Samples by a power that falls linearly from 1 in the first epoch to 0 in the last.

    Kang et al., 2020 (equation 3) interpolate the probabilities instead.

    Args:
        epochs: Epochs of the training, 1 or more.

    Raises:
        UserError: If ``epochs`` is below 1.
    """

    balances = True

    def __init__(self, epochs: int) -> None:
        require(epochs >= 1, "sampler.epochs", epochs, "1 or more, and is trainer.max_epochs: set that")
        self.epochs = epochs

    def q(self, epoch: int) -> float:
        """Return the power of an epoch, counted from 0."""
        return 1 - min(epoch / max(self.epochs - 1, 1), 1.0)

    def cut_short(self, epochs: int, max_epochs: int) -> str | None:
        """Return a sentence on the power that was not reached."""
        q = self.q(epochs - 1)
        return f"the sampler came from q 1 to {q:.2f}, not to 0" if q > 0 and epochs < max_epochs else None

    def order(self, target: Numbers, epoch: int, rng: Generator) -> Numbers:
        """Return the positions of an epoch's recordings."""
        return sample_by_power(target, self.q(epoch), rng)


def sample_by_power(target: Numbers, q: float, rng: Generator) -> Numbers:
    """Return ``(n,)`` positions of shuffled draws, of class j about ``n n_j^q / sum_i n_i^q`` of them.

    The numbers of draws are a systematic sample (Madow, 1949): each is its expectation, rounded without bias.
    ``target`` holds the ``(n,)`` classes of the recordings.
    """
    counts = np.bincount(target)
    present = rng.permutation(np.flatnonzero(counts))  # rounding depends on neighbours, so they vary between epochs
    weight = counts[present].astype(np.float64) ** q
    ends = np.cumsum(weight) * (len(target) / math.fsum(weight))
    ends[-1] = len(target)
    marks = np.floor(ends + rng.random() + 1e-9).astype(np.int64)  # 1e-9 for rounding errors of the sum
    marks[-1] = len(target)
    draws = np.repeat(present, np.diff(marks, prepend=0))
    return rng.permutation(within_classes(target, draws, rng))


class ClassAware(Sampler):
    """Cycles through the classes, shuffled in each cycle, and through each class's recordings (Shen et al., 2016)."""

    balances = True

    def order(self, target: Numbers, epoch: int, rng: Generator) -> Numbers:
        """Return the positions of an epoch's recordings."""
        present = np.unique(target)
        rounds = -(-len(target) // len(present))
        classes = rng.permuted(np.tile(present, (rounds, 1)), axis=1).ravel()[: len(target)]
        return within_classes(target, classes, rng)


def order_with_background(
    sampler: Sampler, background: NDArray[np.bool_], share: float, target: Numbers, epoch: int, rng: Generator
) -> Numbers:
    """Return positions ``(n,)`` of an epoch's recordings, of which a share is background, a pure function.

    The number of background draws is the share of n, rounded up or down at random so that it is right on average. They
    cycle through the shuffled background. The sampler orders the classes of the other draws, from those recordings
    alone, so that it never takes background for a class; where its epoch is too short, another one follows.

    Args:
        sampler: Orders the recordings of classes.
        background: ``(n,)`` which recordings have none of the classes; not all, and one at least if the share is not 0.
        share: At least 0 and below 1.
        target: ``(n,)`` class of each recording, 0 or more; of background any number.
        epoch: From 0.
        rng: New generator of this epoch.
    """
    n, quiet, heard = len(target), np.flatnonzero(background), np.flatnonzero(~background)
    quota = min(math.floor(share * n + rng.random()), n - 1)
    place = rng.permutation(n) < quota
    classes = target[heard]
    epochs = [sampler.order(classes, epoch, rng) for _ in range(math.ceil((n - quota) / len(heard)))]
    order = np.empty(n, dtype=np.int64)
    drawn = classes[np.concatenate(epochs)[: n - quota]]
    order[~place] = heard[within_classes(classes, drawn, rng)]  # drawn anew: none again before all others of its class
    one_class = np.zeros(len(quiet), dtype=np.int64), np.zeros(quota, dtype=np.int64)
    order[place] = quiet[within_classes(*one_class, rng)]
    return order
