"""Saved judgements of several species at once: what a run said of each clip, enough to work without its model."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.errors import UserError
from birdclf.metrics import multi_label
from birdclf.metrics.calibration import fit_set_temperature
from birdclf.metrics.figures import Evaluation, Vector
from birdclf.metrics.intervals import Interval
from birdclf.metrics.label_intervals import influence, rate_interval, share_interval
from birdclf.metrics.multi_label import Estimate, ThresholdCounts, by_cluster, share
from birdclf.metrics.over_seeds import Influence
from birdclf.metrics.predictions import Predictions, stored_rows

BUCKET_FIGURES = {"cmap": "ap", "auroc": "auroc", "f1": "f1", "recall": "recall"}
"""Figures of a bucket, and of which figure of a class each is the mean."""


@dataclass(frozen=True)
class LabelPredictions:
    """Predictions for one split, of sets of species; probabilities are ``sigmoid(logits)``."""

    recording_id: NDArray[np.object_]  # `(N,)` names
    target: NDArray[np.int8]  # `(N, K)`: 1 heard, 0 not heard, -1 not known
    logits: NDArray[np.float32]  # `(N, K)` float32
    cluster: NDArray[np.object_]  # `(N,)` recording or site of each clip, its own name where it has none
    duration_s: NDArray[np.float64]  # `(N,)` seconds
    others: NDArray[np.bool_] | None = None  # `(N,)` clips in which species that are no class are heard: not empty

    @property
    def empty(self) -> NDArray[np.bool_]:
        """``(N,)`` clips in which nothing is heard."""
        silent = ~(self.target == 1).any(axis=1)
        return np.asarray(silent if self.others is None else silent & ~self.others)

    @cached_property
    def probabilities(self) -> Vector:
        """``(N, K)`` probabilities."""
        return multi_label.probabilities(self.logits)

    @cached_property
    def _members(self) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
        names, member = np.unique(self.cluster, return_inverse=True)
        return names, member

    @property
    def heard(self) -> NDArray[np.int64]:
        """``(K,)`` clips in which each class is heard."""
        return np.asarray((self.target == 1).sum(axis=0), dtype=np.int64)

    @property
    def empty_hours(self) -> float:
        """Hours of clips in which no class is heard."""
        return float(self.duration_s[self.empty].sum() / 3600)

    def by_class(self, settings: Evaluation) -> dict[str, Estimate]:
        """Return the figures of each class ``(K,)``, NaN of a class without a positive."""
        if settings not in self._by_class:
            rankings = multi_label.class_rankings(self.logits, self.target, self._members[1], settings)
            counts = self._counts(settings)
            at_threshold = {"f1": counts.f1(), "recall": counts.recall(), "precision": counts.precision()}
            self._by_class[settings] = rankings | at_threshold
        return self._by_class[settings]

    @cached_property
    def _by_class(self) -> dict[Evaluation, dict[str, Estimate]]:
        return {}  # what takes long, of each settings that were asked for

    def _counts(self, settings: Evaluation) -> ThresholdCounts:
        return ThresholdCounts.of(self.probabilities >= settings.threshold, self.target, self._members[1])

    def estimates(self, train_counts: NDArray[np.int64], settings: Evaluation) -> dict[str, Estimate]:
        """Return the figures that have an interval, those of buckets as ``few_cmap``."""
        member, labelled = self._members[1], (self.target == 1).any(axis=1)
        right = multi_label.top_is_heard(self.logits, self.target) & labelled
        called = ((self.probabilities >= settings.threshold) & (self.target >= 0)).sum(axis=1)
        hours = by_cluster(np.where(self.empty, self.duration_s, 0) / 3600, member)
        of_class = self.by_class(settings)
        every = np.ones(self.target.shape[1], dtype=bool)
        found = {
            "cmap": of_class["ap"].mean(every),
            "auroc": of_class["auroc"].mean(every),
            "t1_accuracy": share(by_cluster(right, member), by_cluster(labelled, member), labelled.sum()),
            "micro_f1": self._counts(settings).micro_f1(),
            "macro_f1": of_class["f1"].mean(every),
            "recall_at_precision": of_class["recall_at_precision"].mean(every),
            "precision_at_recall": of_class["precision_at_recall"].mean(every),
            "false_detections_per_hour": share(
                by_cluster(np.where(self.empty, called, 0), member), hours, self.empty.sum()
            ),
        }
        for bucket, members in settings.buckets(train_counts).items():
            found |= {f"{bucket}_{name}": of_class[of].mean(members) for name, of in BUCKET_FIGURES.items()}
        return found

    def measured(
        self, metric: str, train_counts: NDArray[np.int64], settings: Evaluation
    ) -> tuple[float, Influence] | None:
        """Return a figure such as ``cmap`` or ``few_cmap``, and what it loses without each cluster.

        None of a figure that has no interval, or is not defined, such as that of a bucket without a positive.
        """
        found = self.estimates(train_counts, settings).get(metric)
        if found is None or not np.isfinite(found.value):
            return None
        return float(found.value), Influence(self._members[0], influence(found))

    def interval(self, metric: str, train_counts: NDArray[np.int64], settings: Evaluation) -> Interval | None:
        """Return the interval of a figure such as ``cmap`` or ``few_recall``; None of one that has none."""
        found = self.estimates(train_counts, settings).get(metric)
        if found is None or not np.isfinite(found.value):
            return None
        if metric == "false_detections_per_hour":
            return rate_interval(found, self.empty_hours, settings.confidence)
        return share_interval(found, settings.confidence)

    def at(self, least: Vector, settings: Evaluation) -> dict[str, dict[str, float | None]]:
        """Return the precision and recall of all detections, and those an hour of empty clips, with intervals.

        Args:
            least: ``(K,)`` probabilities from which each class is detected; infinite for never.
            settings: Confidence of the intervals.
        """
        # Thresholds hold for probabilities in float32, as predictions are saved.
        called = (self.probabilities.astype(np.float32) >= least.astype(np.float32)) & (self.target >= 0)
        heard = self.target == 1
        hits, made, there = (by_cluster(each.sum(axis=1), self._members[1]) for each in (called & heard, called, heard))
        falsely = by_cluster(np.where(self.empty, called.sum(axis=1), 0), self._members[1])
        hours = by_cluster(np.where(self.empty, self.duration_s, 0) / 3600, self._members[1])
        rate = share(falsely, hours, self.empty.sum())
        low, high = rate_interval(rate, self.empty_hours, settings.confidence)
        return {
            "precision": _with_limits(share(hits, made, made.sum()), settings),
            "recall": _with_limits(share(hits, there, there.sum()), settings),
            "false_detections_per_hour": {"value": _number(rate.value), "low": _number(low), "high": _number(high)},
        }

    def figures(self, train_counts: NDArray[np.int64], settings: Evaluation | None = None) -> dict[str, Any]:
        """Return every figure, those with an interval as ``{value, low, high}``.

        A figure that is not defined is None: of classes or buckets without a positive, of no empty sound. In
        ``buckets`` figures are plain numbers, the interval of ``cmap`` stands beside it as ``cmap_low`` and
        ``cmap_high``; ``clips`` are those in which a class of the bucket is heard.

        Args:
            train_counts: ``(K,)`` train recordings of each class, for the buckets.
            settings: Limits of the buckets, thresholds, bins and confidence; the usual ones if not given.
        """
        settings = settings or Evaluation()
        heard = self.heard
        estimates = self.estimates(train_counts, settings)
        figures: dict[str, Any] = {}
        for name in ("cmap", "auroc", "t1_accuracy", "micro_f1", "macro_f1", "recall_at_precision"):
            figures[name] = _with_limits(estimates[name], settings)
        figures["precision_at_recall"] = _with_limits(estimates["precision_at_recall"], settings)
        rate = estimates["false_detections_per_hour"]
        low, high = rate_interval(rate, self.empty_hours, settings.confidence)
        figures["false_detections_per_hour"] = {
            "value": _number(rate.value),
            "low": _number(low),
            "high": _number(high),
        }
        errors = multi_label.class_calibration_errors(self.probabilities, self.target, settings.bins)
        figures["ece"] = float(errors[heard > 0].mean()) if heard.any() else None
        figures["nll"] = _number(multi_label.cross_entropy(self.logits, self.target))
        figures["buckets"] = {}
        for bucket, members in settings.buckets(train_counts).items():
            row = {name: _number(estimates[f"{bucket}_{name}"].value) for name in BUCKET_FIGURES}
            limits = _with_limits(estimates[f"{bucket}_cmap"], settings)
            figures["buckets"][bucket] = row | {
                "cmap_low": limits["low"],
                "cmap_high": limits["high"],
                "classes": int((members & (heard > 0)).sum()),
                "clips": int((self.target[:, members] == 1).any(axis=1).sum()),
            }
        figures["clips"] = len(self.target)
        figures["empty_hours"] = self.empty_hours
        figures["classes_without_positive"] = int((heard == 0).sum())
        return figures

    def epoch_figures(self, train_counts: NDArray[np.int64], settings: Evaluation) -> dict[str, float | None]:
        """Return the figures of :meth:`estimates` without intervals, None where one is not defined."""
        return {name: _number(found.value) for name, found in self.estimates(train_counts, settings).items()}

    def score(self, name: str) -> float:
        """Return a figure that training may monitor, such as ``cmap`` or ``nll``; 0 where it is not defined."""
        if name == "nll":
            return multi_label.cross_entropy(self.logits, self.target)
        found = self.estimates(np.zeros(self.target.shape[1], dtype=np.int64), Evaluation())[name]
        return _number(found.value) or 0.0

    def temperature(self) -> float:
        """Return the divisor of the logits that calibrates their sigmoids best on these recordings."""
        return fit_set_temperature(self.logits, self.target)

    def at_temperature(self, temperature: float, settings: Evaluation) -> dict[str, float | None]:
        """Return the figures of the probabilities after temperature scaling, which moves those at a threshold."""
        z, heard = self.logits.astype(np.float64) / temperature, self.heard > 0
        errors = multi_label.class_calibration_errors(multi_label.probabilities(z), self.target, settings.bins)
        return {
            "ece_calibrated": float(errors[heard].mean()) if heard.any() else None,
            "nll_calibrated": _number(multi_label.cross_entropy(z, self.target)),
        }

    def precision_recall(
        self, train_counts: NDArray[np.int64], settings: Evaluation | None = None
    ) -> dict[str, multi_label.PrecisionRecall]:
        """Return the curves of all species and of those of each bucket, without those of which none is heard."""
        settings = settings or Evaluation()
        every = {"all": np.ones(self.target.shape[1], dtype=bool)}
        found = {}
        for name, of in (every | settings.buckets(train_counts)).items():
            curve = multi_label.precision_recall(self.logits[:, of], self.target[:, of], self._members[1], settings)
            if curve is not None:
                found[name] = curve
        return found

    def table(self, split: str, classes: tuple[str, ...]) -> pd.DataFrame:
        """Return one row a clip: id, split, cluster, duration, and a target and a probability a class."""
        head = pd.DataFrame(
            {
                "recording_id": self.recording_id,
                "split": split,
                "cluster": self.cluster,
                "duration_s": self.duration_s,
            }
        )
        if self.others is not None:
            head["others"] = self.others
        target = pd.DataFrame(self.target, columns=[f"y:{name}" for name in classes])
        p = pd.DataFrame(self.probabilities.astype(np.float32), columns=[f"p:{name}" for name in classes])
        return pd.concat([head, target, p], axis=1)


AnyPredictions = Predictions | LabelPredictions
"""Predictions of either task, which share the methods that do not depend on it."""


def _number(value: Vector | float) -> float | None:
    """Return a figure as JSON has it: None where it is not defined."""
    return float(value) if np.isfinite(value) else None


def _with_limits(estimate: Estimate, settings: Evaluation) -> dict[str, float | None]:
    low, high = share_interval(estimate, settings.confidence)
    return {"value": _number(estimate.value), "low": _number(low), "high": _number(high)}


def per_class_table(
    predictions: LabelPredictions,
    classes: tuple[str, ...],
    supports: dict[str, NDArray[np.int64]],
    settings: Evaluation | None = None,
) -> pd.DataFrame:
    """Return one row a class: recordings in each split, and its figures on these predictions, NaN without a positive.

    Columns ``average_precision``, ``auroc``, and ``precision``, ``recall`` and ``f1`` at ``settings.threshold``.
    """
    of_class = predictions.by_class(settings or Evaluation())
    table = pd.DataFrame({"species": classes, **supports})
    names = {"average_precision": "ap", **{name: name for name in ("auroc", "precision", "recall", "f1")}}
    return table.assign(**{name: of_class[of].value for name, of in names.items()})


def read_label_predictions(path: Path, split: str) -> tuple[LabelPredictions, tuple[str, ...]]:
    """Return the predictions for one split of a Parquet file that a multi-label run wrote, and its class list.

    Args:
        path: ``predictions.parquet`` of a run folder.
        split: ``val`` or ``test``.

    Raises:
        UserError: If the file is missing or no such table, or holds no row of the split.
    """
    rows, classes, p = stored_rows(path, split, ("recording_id", "split", "cluster", "duration_s"))
    missing = [name for name in classes if f"y:{name}" not in rows]
    if missing:
        raise UserError(
            f"{path} has no targets of {len(missing)} species, such as {missing[0]}; evaluate the run again."
        )
    if p.max() > 1:
        raise UserError(f"{path} has probabilities above 1; evaluate the run again.")
    target = rows[[f"y:{name}" for name in classes]].to_numpy()
    if not np.isin(target, (1, 0, -1)).all():
        raise UserError(f"{path} has targets other than 1, 0 and -1; evaluate the run again.")
    ids, cluster = (rows[name].to_numpy(dtype=object) for name in ("recording_id", "cluster"))
    duration = rows["duration_s"].to_numpy(dtype=np.float64)
    others = rows["others"].to_numpy(dtype=bool) if "others" in rows else None
    return LabelPredictions(ids, target.astype(np.int8), multi_label.logits_of(p), cluster, duration, others), classes
