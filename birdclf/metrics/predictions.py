"""Saved predictions: what a run said of each recording, enough to work without its model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from birdclf.errors import UserError
from birdclf.files import refuse_pointer
from birdclf.metrics import figures as metrics
from birdclf.metrics.calibration import fit_temperature
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.intervals import ClusterCounts, Interval, class_means, figure_intervals, wilson
from birdclf.metrics.over_seeds import Influence


@dataclass(frozen=True)
class Predictions:
    """Predictions for one split."""

    recording_id: NDArray[np.object_]  # `(N,)` names
    target: NDArray[np.int64]  # `(N,)` true classes
    logits: NDArray[np.float32]  # `(N, K)` float32
    cluster: NDArray[np.object_]  # `(N,)` group of each recording, its own name where it has none

    @property
    def prediction(self) -> NDArray[np.int64]:
        """``(N,)`` most probable classes."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """``(K, K)`` counts, true class by row."""
        return metrics.confusion_matrix(self.target, self.prediction, self.logits.shape[1])

    @cached_property
    def counts(self) -> ClusterCounts:
        """Counts by cluster."""
        return ClusterCounts.of(self.target, self.prediction, self.cluster, self.logits.shape[1])

    def measured(
        self, metric: str, train_counts: NDArray[np.int64], settings: Evaluation
    ) -> tuple[float, Influence] | None:
        """Return a figure such as ``macro_f1`` or ``few_recall``, and what it loses without each cluster.

        None of a figure that is no weighted sum of the classes' ratios, or of a bucket without a clip.
        """
        found = class_means(self.counts.total.support, train_counts, settings).get(metric)
        if found is None:
            return None
        kind, weight = found
        influence = Influence(np.unique(self.cluster), self.counts.influence(kind, least=2) @ weight)
        return float(self.counts.total.ratio(kind) @ weight), influence

    def interval(self, metric: str, train_counts: NDArray[np.int64], settings: Evaluation) -> Interval | None:
        """Return the interval of a figure such as ``macro_f1`` or ``few_recall``; None of one that has none."""
        if metric == "accuracy":
            return wilson(int((self.target == self.prediction).sum()), len(self.target), settings.confidence)
        return figure_intervals(self.counts, train_counts, settings).get(metric)

    def figures(self, train_counts: NDArray[np.int64], settings: Evaluation | None = None) -> dict[str, Any]:
        """Return every figure, those with an interval as ``{value, low, high}``.

        In ``buckets`` recall, precision and F1 are plain numbers, or None where no class of the bucket has a clip; F1's
        interval stands beside it as ``f1_low`` and ``f1_high``.

        Args:
            train_counts: ``(K,)`` train recordings of each class, for the buckets.
            settings: Limits of the buckets, draws, bins and confidence; the usual ones if not given.
        """
        settings = settings or Evaluation()
        confusion, log_p = self.confusion, metrics.log_softmax(self.logits)
        accuracy = wilson(int(np.trace(confusion)), len(self.target), settings.confidence)
        intervals = {"accuracy": accuracy} | figure_intervals(self.counts, train_counts, settings)
        summary = metrics.summarise(confusion)
        figures: dict[str, Any] = {
            name: {"value": value, **intervals[name]._asdict()} for name, value in summary.items()
        }
        p = np.exp(log_p)
        figures["top5_accuracy"] = metrics.top_k_accuracy(log_p, self.target)
        figures["macro_average_precision"] = metrics.macro_average_precision(p, self.target)
        figures["nll"] = metrics.negative_log_likelihood(log_p, self.target)
        figures["ece"] = metrics.expected_calibration_error(p, self.target, settings.bins)
        figures["buckets"] = {}
        for name, row in metrics.bucket_table(confusion, train_counts, settings).items():
            found = intervals.get(f"{name}_f1")
            limits = {"f1_low": found.low if found else None, "f1_high": found.high if found else None}
            figures["buckets"][name] = row | limits
        figures["clips"] = len(self.target)
        return figures

    def score(self, name: str) -> float:
        """Return a figure that training may monitor, such as ``macro_f1`` or ``nll``."""
        if name == "nll":
            return metrics.negative_log_likelihood(metrics.log_softmax(self.logits), self.target)
        return metrics.summarise(self.confusion)[name]

    def temperature(self) -> float:
        """Return the divisor of the logits that calibrates their softmax best on these recordings."""
        return fit_temperature(self.logits, self.target)

    def at_temperature(self, temperature: float, settings: Evaluation) -> dict[str, float]:
        """Return the figures of the probabilities after temperature scaling, which changes no decision."""
        log_p = metrics.log_softmax(self.logits.astype(np.float64) / temperature)
        return {
            "ece_calibrated": metrics.expected_calibration_error(np.exp(log_p), self.target, settings.bins),
            "nll_calibrated": metrics.negative_log_likelihood(log_p, self.target),
        }

    def table(self, split: str, classes: tuple[str, ...]) -> pd.DataFrame:
        """Return one row a recording: id, split, target, prediction, cluster, and a probability a class."""
        names = np.asarray(classes, dtype=object)
        head = pd.DataFrame(
            {
                "recording_id": self.recording_id,
                "split": split,
                "target": names[self.target],
                "prediction": names[self.prediction],
                "cluster": self.cluster,
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


def read_predictions(path: Path, split: str) -> tuple[Predictions, tuple[str, ...]]:
    """Return the predictions for one split of a Parquet file that a run wrote, and its class list.

    Logits are the log probabilities: the same but for a constant a row, which changes no figure.

    Args:
        path: ``predictions.parquet`` of a run folder.
        split: ``val`` or ``test``.

    Raises:
        UserError: If the file is missing or no table of predictions, or holds no row of the split.
    """
    rows, classes, p = stored_rows(path, split, ("recording_id", "split", "target"))
    index = {name: k for k, name in enumerate(classes)}
    unknown = sorted(set(map(str, rows["target"])) - index.keys())
    if unknown:
        raise UserError(f"{path} has recordings of {len(unknown)} species without a probability, such as {unknown[0]}.")
    if not (p.max(axis=1) > 0).all():
        raise UserError(f"{path} has recordings whose probabilities are all 0; evaluate the run again.")
    ids = rows["recording_id"].to_numpy(dtype=object)
    cluster = rows["cluster"].to_numpy(dtype=object) if "cluster" in rows else ids  # older runs did not store it
    target = np.array([index[str(name)] for name in rows["target"]], dtype=np.int64)
    # A probability that float32 rounded to 0 was at least smaller than the least positive one.
    return Predictions(ids, target, np.log(np.maximum(p, np.finfo(np.float32).tiny)), cluster), classes


def stored_rows(
    path: Path, split: str, needed: Sequence[str]
) -> tuple[pd.DataFrame, tuple[str, ...], NDArray[np.float32]]:
    """Return the rows of one split of a Parquet file of predictions, its class list, and ``(N, K)`` probabilities.

    Args:
        path: ``predictions.parquet`` of a run folder.
        split: ``val`` or ``test``.
        needed: Columns that it must have, beside a ``p:<species>`` for each class.

    Raises:
        UserError: If the file is missing or no table of predictions, or holds no row of the split.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; a run writes it when its training has ended.")
    refuse_pointer(path)
    try:
        table = pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as Parquet ({error}); evaluate the run again.") from error
    missing = [name for name in needed if name not in table]
    columns = [str(name) for name in table.columns if str(name).startswith("p:")]
    if missing or not columns:
        lacks = ", ".join([*missing, *([] if columns else ["a p:<species> for each class"])])
        raise UserError(f"{path} lacks the columns {lacks}; evaluate the run again.")
    rows = table[table["split"] == split]
    if rows.empty:
        held = ", ".join(sorted(map(str, table["split"].unique()))) or "nothing"
        raise UserError(f"{path} holds no row of the split {split}; it holds {held}.")
    p = rows[columns].to_numpy(dtype=np.float32, na_value=np.nan)
    if not (np.isfinite(p).all() and (p >= 0).all()):
        raise UserError(f"{path} has probabilities that are no numbers of 0 or more; evaluate the run again.")
    return rows, tuple(name.removeprefix("p:") for name in columns), p
