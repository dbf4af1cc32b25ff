"""Metrics of a classification with a fixed class list.

All come from two sufficient statistics: the confusion matrix and, where probabilities matter, the logits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdclf.checks import above, is_number, whole
from birdclf.errors import UserError


@dataclass(frozen=True)
class Evaluation:
    """Limits of the buckets, and level of the intervals.

    Args:
        many: Train recordings; a class with more is many-shot.
        few: Train recordings; a class with fewer is few-shot, ``many`` or less.
        draws: Bootstrap samples and sign flips, 100 or more.
        bins: Bins of confidence for the calibration error, 1 or more.
        confidence: Coverage of every interval, in (0, 1).
        margin: Largest difference of two configurations' figures that is not relevant, a share of 0 or more, below 1.
        threshold: Probability from which a species counts as found, of several at once, above 0 and at most 1.
        precision: At which recall is given, of several species at once, above 0 and at most 1.
        recall: At which precision is given, above 0 and at most 1.

    Raises:
        UserError: If a value is out of range.
    """

    many: int = 100
    few: int = 20
    draws: int = 2_000
    bins: int = 15
    confidence: float = 0.95
    margin: float = 0.02
    threshold: float = 0.5
    precision: float = 0.9
    recall: float = 0.5

    def __post_init__(self) -> None:
        for name, least in (("few", 0), ("many", 0), ("draws", 100), ("bins", 1)):
            whole(f"evaluation.{name}", getattr(self, name), least)
        if self.many < self.few:
            raise UserError(f"evaluation.many is {self.many}; it must not be below evaluation.few, {self.few}.")
        if not is_number(self.confidence) or not 0 < self.confidence < 1:
            raise UserError(f"evaluation.confidence is {self.confidence}; it must lie between 0 and 1, such as 0.95.")
        if not is_number(self.margin) or not 0 <= self.margin < 1:
            raise UserError(
                f"evaluation.margin is {self.margin}; it must be a share of 0 or more and below 1: 0.02 is 2 points."
            )
        for name in ("threshold", "precision", "recall"):
            above(f"evaluation.{name}", getattr(self, name), 0, 1)

    @property
    def coverage(self) -> str:
        """Return the coverage as a sentence has it: ``95 %``."""
        return f"{100 * self.confidence:g} %"

    def buckets(self, train_counts: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
        """Return which classes are many-, medium- and few-shot, ``(K,)`` each, by their train recordings ``(K,)``."""
        return {
            "many": train_counts > self.many,
            "medium": (train_counts >= self.few) & (train_counts <= self.many),
            "few": train_counts < self.few,
        }


Matrix = NDArray[np.int64]
Vector = NDArray[np.float64]


def confusion_matrix(target: NDArray[np.int64], prediction: NDArray[np.int64], classes: int) -> Matrix:
    """Return the ``(K, K)`` counts, true class by row and predicted class by column."""
    return np.bincount(target * classes + prediction, minlength=classes * classes).reshape(classes, classes)


def precision_recall_f1(confusion: Matrix) -> tuple[Vector, Vector, Vector]:
    """Return precision, recall and F1 of each class, ``(K,)`` each; 0 where a ratio is not defined."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    predicted, support = confusion.sum(axis=-2), confusion.sum(axis=-1)
    return ratio(hits, predicted), ratio(hits, support), ratio(2 * hits, predicted + support)


def ratio(above: NDArray[np.generic], below: NDArray[np.generic]) -> Vector:
    """Return ``above / below``, 0 where ``below`` is 0; the two are broadcast."""
    zeros = np.zeros(np.broadcast_shapes(np.shape(above), np.shape(below)))
    out: Vector = np.divide(above, below, out=zeros, where=np.asarray(below) != 0)
    return out


def summarise(confusion: Matrix) -> dict[str, float]:
    """Return the figures that follow from a confusion matrix ``(K, K)`` with at least one clip.

    ``macro_f1`` is the mean over all K classes, ``macro_f1_evaluable`` over those with a clip; ``balanced_accuracy``
    is the mean recall over the latter (Brodersen et al., 2010) and ``weighted_f1`` weighs F1 by support.
    """
    _, recall, f1 = precision_recall_f1(confusion)
    support = confusion.sum(axis=1)
    seen = support > 0
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "macro_f1": float(f1.mean()),
        "macro_f1_evaluable": float(f1[seen].mean()),
        "weighted_f1": float((f1 * support).sum() / support.sum()),
        "balanced_accuracy": float(recall[seen].mean()),
    }


def bucket_table(
    confusion: Matrix, train_counts: NDArray[np.int64], settings: Evaluation | None = None
) -> dict[str, dict[str, float | int | None]]:
    """Return mean precision, recall and F1 over the evaluable classes of each bucket, with their number and clips.

    Args:
        confusion: ``(K, K)`` counts, true class by row.
        train_counts: ``(K,)`` train recordings of each class.
        settings: Limits of the buckets; the usual ones if not given.
    """
    precision, recall, f1 = precision_recall_f1(confusion)
    support = confusion.sum(axis=1)
    table: dict[str, dict[str, float | int | None]] = {}
    for name, members in (settings or Evaluation()).buckets(train_counts).items():
        seen = members & (support > 0)
        means = {"precision": precision, "recall": recall, "f1": f1}
        table[name] = {
            **{figure: float(value[seen].mean()) if seen.any() else None for figure, value in means.items()},
            "classes": int(seen.sum()),
            "clips": int(support[seen].sum()),
        }
    return table


def log_softmax(logits: NDArray[np.floating]) -> Vector:
    """Return log probabilities ``(N, K)`` in float64."""
    z = logits.astype(np.float64)
    z = z - z.max(axis=1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)), dtype=np.float64)


def negative_log_likelihood(log_p: Vector, target: NDArray[np.int64]) -> float:
    """Return the mean of ``-log p_y`` over ``(N, K)`` log probabilities, in nats."""
    return float(-log_p[np.arange(len(target)), target].mean())


def top_k_accuracy(log_p: Vector, target: NDArray[np.int64], k: int = 5) -> float:
    """Return the share of clips whose class is among the k most probable; ties count against the class."""
    own = log_p[np.arange(len(target)), target][:, None]
    return float(((log_p >= own).sum(axis=1) <= min(k, log_p.shape[1])).mean())


def macro_average_precision(p: NDArray[np.floating], target: NDArray[np.int64]) -> float:
    """Return the mean over classes with a clip of each class's average precision against the rest (cmAP).

    Average precision is ``sum_n (R_n - R_{n-1}) P_n`` over the ranking of all clips, without interpolation
    (Buckley and Voorhees, 2000).

    Args:
        p: ``(N, K)`` probabilities, or any score that ranks clips of one class.
        target: ``(N,)`` true classes, 1 clip or more.
    """
    return float(np.mean([_average_precision(target == k, p[:, k]) for k in np.unique(target)]))


def _average_precision(truth: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """Return scikit-learn's ``average_precision_score``, to the last bit, without its checks: a seventh of the time.

    Clips of equal score ``(N,)`` enter the ranking together.
    """
    order = np.argsort(-score, kind="stable")
    score = score[order]
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)  # of the clips of each score
    hits = np.cumsum(truth[order])[last]
    precision, recall = hits / (last + 1), hits / hits[-1]
    steps = np.diff(recall, prepend=0.0) * precision
    return float(np.sum(steps[::-1].copy()))  # in its order


def confidence_bins(
    p: NDArray[np.floating], target: NDArray[np.int64], bins: int
) -> tuple[Vector, NDArray[np.bool_], NDArray[np.int64]]:
    """Return of each clip the probability of its predicted class, whether that is right, and the bin it falls in.

    Args:
        p: ``(N, K)`` probabilities.
        target: ``(N,)`` true classes.
        bins: Bins of equal width over (0, 1], each with its upper edge.
    """
    top = p.max(axis=1).astype(np.float64)
    # The last bin also takes a probability that was rounded up past 1.
    member = np.clip(np.ceil(top * bins).astype(np.int64) - 1, 0, bins - 1)
    return top, p.argmax(axis=1) == target, member


def expected_calibration_error(p: NDArray[np.floating], target: NDArray[np.int64], bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy, weighted by clips (Guo et al., 2017, equation 3).

    Args:
        p: ``(N, K)`` probabilities.
        target: ``(N,)`` true classes, 1 clip or more.
        bins: Bins of equal width.
    """
    top, right, member = confidence_bins(p, target, bins)
    return float(np.abs(np.bincount(member, weights=top - right)).sum() / len(target))
