"""Several models as one: their probabilities or logits averaged, with weights that are equal or fitted."""

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from birdclf.metrics.figures import Vector, log_softmax
from birdclf.metrics.predictions import Predictions
from birdclf.random import key_of

Average = Literal["probabilities", "logits"]

ROUNDS: Final = 50
FOLDS: Final = 5


def average_predictions(
    members: Sequence[Predictions], weights: Vector, average: Average = "probabilities"
) -> Predictions:
    """Return the weighted mean of predictions for the same recordings.

    Of probabilities it is the linear opinion pool (Stone, 1961), of logits the logarithmic one, normalised: both as log
    probabilities.

    Args:
        members: One or more, with the same recordings in the same order.
        weights: ``(M,)``, not negative, of any sum above 0.
        average: What is averaged.
    """
    first = members[0]
    log_p = np.stack([log_softmax(member.logits) for member in members])  # (M, N, K)
    logits = _pooled(log_p, np.asarray(weights, dtype=np.float64), average)
    return Predictions(first.recording_id, first.target, logits.astype(np.float32), first.cluster)


def greedy_weights(members: Sequence[Predictions], average: Average = "probabilities", rounds: int = ROUNDS) -> Vector:
    """Return weights ``(M,)`` of sum 1 by greedy selection with replacement (Caruana et al., 2004, section 2).

    Each round adds the member that leaves the negative log-likelihood least, if it is in already or not; the weights
    are how often each was added up to the best round. Of equally good members the first is taken.

    Args:
        members: Predictions for the same recordings in the same order, none of which a member was trained on.
        average: What is averaged.
        rounds: Additions at most, 1 or more.
    """
    log_p = np.stack([log_softmax(member.logits) for member in members])
    target = members[0].target
    values = np.exp(log_p) if average == "probabilities" else log_p
    chosen: list[int] = []
    best, length = np.inf, 0
    total = np.zeros_like(values[0])
    for number in range(1, rounds + 1):
        losses = [_nll((total + value) / number, target, average) for value in values]
        chosen.append(int(np.argmin(losses)))
        total += values[chosen[-1]]
        if losses[chosen[-1]] < best - 1e-12:
            best, length = losses[chosen[-1]], number
    counts = np.bincount(chosen[:length], minlength=len(members))
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def generalises(members: Sequence[Predictions], average: Average = "probabilities") -> tuple[float, float]:
    """Return the negative log-likelihood of equal and of greedy weights on recordings that they were not fitted on.

    Weights are fitted on all folds of the recordings but one and judged on that one, in turn; a group of recordings is
    in one fold. Weights that are no better than equal ones there follow the noise of the validation recordings.
    """
    first = members[0]
    fold = np.array([key_of("ensemble fold", name) % FOLDS for name in first.cluster])
    equal = np.full(len(members), 1 / len(members))
    sums = np.zeros(2)
    for k in np.unique(fold):
        inside, outside = ([_rows(m, which) for m in members] for which in (fold == k, fold != k))
        if not len(outside[0].target):
            return np.nan, np.nan
        for i, weights in enumerate((equal, greedy_weights(outside, average))):
            log_p = log_softmax(average_predictions(inside, weights, average).logits)
            sums[i] -= log_p[np.arange(len(log_p)), inside[0].target].sum()
    return float(sums[0] / len(fold)), float(sums[1] / len(fold))


def _pooled(log_p: NDArray[np.float64], weights: Vector, average: Average) -> Vector:
    share = (weights / weights.sum())[:, None, None]
    if average == "logits":
        return log_softmax((share * log_p).sum(axis=0))
    # A probability that underflows is still smaller than any that was not.
    return np.asarray(np.log(np.maximum((share * np.exp(log_p)).sum(axis=0), np.finfo(np.float32).tiny)))


def _nll(mean: Vector, target: NDArray[np.int64], average: Average) -> float:
    own = np.arange(len(target)), target
    if average == "logits":
        return float(-log_softmax(mean)[own].mean())
    return float(-np.log(np.maximum(mean[own], np.finfo(np.float32).tiny)).mean())


def _rows(predictions: Predictions, which: NDArray[np.bool_]) -> Predictions:
    p = predictions
    return Predictions(p.recording_id[which], p.target[which], p.logits[which], p.cluster[which])
