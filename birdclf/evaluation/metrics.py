"""Metrics of a classification with a fixed class list.

All come from two sufficient statistics: the confusion matrix and, where probabilities matter, the logits.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.int64]
Vector = NDArray[np.float64]

MANY: Final = 100  # train recordings; a class with more is many-shot
FEW: Final = 20  # a class with fewer is few-shot


def confusion_matrix(target: NDArray[np.int64], prediction: NDArray[np.int64], classes: int) -> Matrix:
    """Return the ``(K, K)`` counts, true class by row and predicted class by column."""
    return np.bincount(target * classes + prediction, minlength=classes * classes).reshape(classes, classes)


def precision_recall_f1(confusion: Matrix) -> tuple[Vector, Vector, Vector]:
    """Return precision, recall and F1 of each class, ``(K,)`` each; 0 where a ratio is not defined."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    predicted, support = confusion.sum(axis=-2), confusion.sum(axis=-1)
    return ratio(hits, predicted), ratio(hits, support), ratio(2 * hits, predicted + support)


def ratio(above: NDArray[np.generic], below: NDArray[np.generic]) -> Vector:
    """Return ``above / below``, 0 where ``below`` is 0."""
    out: Vector = np.divide(above, below, out=np.zeros(np.shape(below)), where=np.asarray(below) != 0)
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


def buckets(train_counts: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Return which classes are many-, medium- and few-shot, ``(K,)`` each, by their train recordings."""
    return {
        "many": train_counts > MANY,
        "medium": (train_counts >= FEW) & (train_counts <= MANY),
        "few": train_counts < FEW,
    }


def bucket_table(confusion: Matrix, train_counts: NDArray[np.int64]) -> dict[str, dict[str, float | int | None]]:
    """Return mean recall and F1 over the evaluable classes of each bucket, with the number of classes and clips."""
    _, recall, f1 = precision_recall_f1(confusion)
    support = confusion.sum(axis=1)
    table: dict[str, dict[str, float | int | None]] = {}
    for name, members in buckets(train_counts).items():
        seen = members & (support > 0)
        table[name] = {
            "recall": float(recall[seen].mean()) if seen.any() else None,
            "f1": float(f1[seen].mean()) if seen.any() else None,
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
