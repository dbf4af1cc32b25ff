"""Sets of species that hold each species that is there with a stated probability, class by class."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from birdclf.metrics.figures import Vector

Pool = Literal["own", "rare", "all", "none"]


@dataclass(frozen=True)
class ClassThresholds:
    """Scores from which a class belongs to a set.

    Attributes:
        threshold: ``(K,)``; 0 where too few clips were known: the class is then in every set.
        positives: ``(K,)`` clips of each class that were known.
        pool: ``(K,)`` whose clips decided: the class's own, those of all rare classes, of all classes, or none.
    """

    threshold: Vector
    positives: NDArray[np.int64]
    pool: tuple[Pool, ...]


def class_thresholds(
    probabilities: NDArray[np.floating], target: NDArray[np.integer], coverage: float
) -> ClassThresholds:
    """Return the thresholds for sets ``{k: p_k >= threshold_k}`` with coverage by class (Mondrian split conformal).

    A clip of class k from the same source has k in its set with a probability of at least ``coverage``, whatever the
    scores are worth: the threshold is the ``floor((n + 1) (1 - coverage))``-th lowest score of its n clips (Vovk, 2012;
    Sadinle, Lei and Wasserman, 2019). With fewer than ``ceil(1 / (1 - coverage)) - 1`` clips there is none; such rare
    classes share the threshold of all their clips (clustered conformal prediction, Ding et al., 2023, with one
    cluster), or, if these are too few as well, that of the clips of all classes. Over a pool the coverage holds for its
    classes together, not for each.

    Args:
        probabilities: ``(N, K)`` of clips that the model was not trained on.
        target: ``(N,)`` classes, or ``(N, K)`` of 1 heard, 0 not heard, -1 not known.
        coverage: In (0, 1).
    """
    classes = probabilities.shape[1]
    own = target == 1 if target.ndim == 2 else target[:, None] == np.arange(classes)
    positives = own.sum(axis=0)
    scores = [np.sort(probabilities[own[:, k], k].astype(np.float64)) for k in range(classes)]
    rare = np.asarray([_rank(n, coverage) == 0 for n in positives])
    shared = np.sort(np.concatenate([s for s, is_rare in zip(scores, rare, strict=True) if is_rare] or [np.empty(0)]))
    every = np.sort(np.concatenate(scores))
    threshold = np.zeros(classes)
    pools: list[Pool] = []
    for k in range(classes):
        options: tuple[tuple[Pool, Vector], ...] = (("own", scores[k]), ("rare", shared), ("all", every))
        usable = [(pool, held) for pool, held in options if _rank(len(held), coverage)]
        if usable:
            held = usable[0][1]
            threshold[k] = held[_rank(len(held), coverage) - 1]
        pools.append(usable[0][0] if usable else "none")
    return ClassThresholds(threshold, positives, tuple(pools))


def _rank(n: int, coverage: float) -> int:
    """Return which of n scores, from the lowest as 1, is the threshold; 0 where n are too few."""
    return math.floor((n + 1) * (1 - coverage) + 1e-9)  # 10 x (1 - 0.9) is 1
