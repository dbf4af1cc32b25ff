"""One figure of a configuration with what is known of its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import chi2, norm, t

from birdclf.config import direction
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.intervals import score
from birdclf.metrics.over_seeds import Influence, OverSeeds
from birdclf.report.configurations import Configuration
from birdclf.report.document import Number
from birdclf.runs.run import Run


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval."""

    value: float  # the figure, or its mean over seeds
    low: float  # NaN where no interval is known
    high: float
    sd: float  # over seeds, NaN of one
    seeds: int

    @property
    def basis(self) -> str:
        """Say what the interval is over."""
        return "over the test recordings of one run" if self.seeds == 1 else f"of the mean over {self.seeds} seeds"

    def cell(self) -> Number:
        """Return it for a table: with its interval of one seed, with the deviation of several."""
        if self.seeds > 1:
            return Number(self.value, f"{self.value:.3f} ± {self.sd:.3f}")
        return self.interval_cell()

    def interval_cell(self) -> Number:
        """Return it for a table with its interval, of however many seeds."""
        known = "" if np.isnan(self.low) else f" [{self.low:.3f}, {self.high:.3f}]"
        return Number(self.value, f"{self.value:.3f}{known}")


Measured = tuple[float, Influence]
"""A figure of one run and its influence."""


def measured(run: Run, metric: str, settings: Evaluation) -> Measured | None:
    """Return a metric such as ``test/accuracy`` with its influence; None where it has none."""
    split, _, name = metric.rpartition("/")
    predictions = run.predictions.get(split or "test")
    return predictions.measured(name, run.train_counts, settings) if predictions else None


def estimate(configuration: Configuration, metric: str, settings: Evaluation) -> Estimate | None:
    """Return a metric such as ``test/accuracy``: with the run's interval for one seed, that of the mean for several.

    The latter has the error of :class:`OverSeeds`, as the score interval of a proportion (Korn and Graubard, 1998) so
    that it holds its coverage near 0 and 1. A figure that is no mean over clips or classes, such as the calibration
    error, has Student's interval, or none where its seeds agree exactly.

    None where no run has it. No figure is below 0, and none that is better when higher is above 1, nor are its ends.
    """
    values = np.asarray(list(configuration.values(metric).values()))
    if not len(values):
        return None
    runs = [run for run in configuration.runs.values() if run.figure(metric) is not None]
    if len(values) == 1:
        return Estimate(float(values[0]), *_interval_of(runs[0], metric, settings), float("nan"), 1)
    sd, mean = float(values.std(ddof=1)), float(values.mean())
    of_runs = [found for run in runs if (found := measured(run, metric, settings))]
    if len(of_runs) == len(runs):
        is_share = direction(metric) == "max"
        return Estimate(mean, *interval_of_mean(of_runs, is_share, settings.confidence), sd, len(values))
    half = float(t.ppf(0.5 + settings.confidence / 2, len(values) - 1)) * sd / sqrt(len(values)) or float("nan")
    most = 1.0 if direction(metric) == "max" else float("inf")
    return Estimate(mean, max(mean - half, 0.0), min(mean + half, most), sd, len(values))


def interval_of_mean(of_runs: Sequence[Measured], is_share: bool, confidence: float) -> tuple[float, float]:
    """Return the interval of the mean of a share, or of another figure, over seeds, see :func:`estimate`."""
    influence = [influence for _, influence in of_runs]
    over = OverSeeds.of([value for value, _ in of_runs], influence)
    if not is_share:
        below, above = over.interval(confidence)
        return max(below, 0.0), above
    mean, z = over.value, float(norm.ppf(0.5 + confidence / 2))
    error = over.half_width(confidence) / z
    clusters = len(np.unique(np.concatenate([each.cluster for each in influence])))
    n = mean * (1 - mean) / error**2 if 0 < mean < 1 and error > 0 else clusters
    low, high = score(np.array(mean), np.array(max(n, 1.0)), np.array(z))
    return float(low), float(high)


def spread(configuration: Configuration, metric: str, settings: Evaluation) -> Estimate | None:
    """Return the standard deviation of a metric over seeds, with the interval of a normal sample; None of one seed."""
    values = np.asarray(list(configuration.values(metric).values()))
    n = len(values)
    if n < 2:
        return None
    sd = float(values.std(ddof=1))
    ends = chi2.ppf([0.5 + settings.confidence / 2, 0.5 - settings.confidence / 2], n - 1)
    low, high = sd * np.sqrt((n - 1) / ends)
    return Estimate(sd, float(low), float(high), sd, n)


def _interval_of(run: Run, metric: str, settings: Evaluation) -> tuple[float, float]:
    split, _, name = metric.rpartition("/")
    stored = run.metrics[split or "test"].get(name)
    if isinstance(stored, dict) and "low" in stored and run.evaluation.confidence == settings.confidence:
        return float(stored["low"]), float(stored["high"])
    if split == "val":
        return float("nan"), float("nan")
    found = run.test.interval(name, run.train_counts, settings)
    return (found.low, found.high) if found else (float("nan"), float("nan"))
