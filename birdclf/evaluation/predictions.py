"""Saved predictions: what a run said of each recording, enough to work without its model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.evaluation import metrics
from birdclf.evaluation.intervals import bootstrap_macro_f1, wilson


@dataclass(frozen=True)
class Predictions:
    """Predictions for one split.

    Attributes:
        recording_id: ``(N,)`` names.
        target: ``(N,)`` true classes.
        logits: ``(N, K)`` float32.
        cluster: ``(N,)`` group of each recording, its own name where it has none.
    """

    recording_id: NDArray[np.object_]
    target: NDArray[np.int64]
    logits: NDArray[np.float32]
    cluster: NDArray[np.object_]

    @property
    def prediction(self) -> NDArray[np.int64]:
        """``(N,)`` most probable classes."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """``(K, K)`` counts, true class by row."""
        return metrics.confusion_matrix(self.target, self.prediction, self.logits.shape[1])

    def figures(self, train_counts: NDArray[np.int64]) -> dict[str, Any]:
        """Return every metric, those with an interval as ``{value, low, high}``.

        Args:
            train_counts: ``(K,)`` train recordings of each class, for the buckets.
        """
        confusion, log_p = self.confusion, metrics.log_softmax(self.logits)
        summary = metrics.summarise(confusion)
        figures: dict[str, Any] = dict(summary)
        accuracy = wilson(int(np.trace(confusion)), len(self.target))
        macro = bootstrap_macro_f1(self.target, self.prediction, self.cluster, len(confusion))
        figures["accuracy"] = {"value": summary["accuracy"], **accuracy._asdict()}
        figures["macro_f1"] = {"value": summary["macro_f1"], **macro._asdict()}
        figures["top5_accuracy"] = metrics.top_k_accuracy(log_p, self.target)
        figures["nll"] = metrics.negative_log_likelihood(log_p, self.target)
        figures["buckets"] = metrics.bucket_table(confusion, train_counts)
        figures["clips"] = len(self.target)
        return figures

    def table(self, split: str, classes: tuple[str, ...]) -> pd.DataFrame:
        """Return one row a recording: id, split, target, prediction, and a probability a class."""
        names = np.asarray(classes, dtype=object)
        head = pd.DataFrame(
            {
                "recording_id": self.recording_id,
                "split": split,
                "target": names[self.target],
                "prediction": names[self.prediction],
            }
        )
        p = np.exp(metrics.log_softmax(self.logits)).astype(np.float32)
        return pd.concat([head, pd.DataFrame(p, columns=[f"p:{name}" for name in classes])], axis=1)


def per_class_table(
    predictions: Predictions, classes: tuple[str, ...], supports: dict[str, NDArray[np.int64]]
) -> pd.DataFrame:
    """Return one row a class: recordings in each split, precision, recall and F1 on these predictions."""
    precision, recall, f1 = metrics.precision_recall_f1(predictions.confusion)
    table = pd.DataFrame({"species": classes, **supports})
    return table.assign(precision=precision, recall=recall, f1=f1)


def write_predictions(path: Path, tables: list[pd.DataFrame]) -> None:
    """Write the rows of several splits to one Parquet file."""
    pd.concat(tables, ignore_index=True).to_parquet(path)
