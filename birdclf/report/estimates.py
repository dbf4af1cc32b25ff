"""One figure of a configuration with what is known of its uncertainty."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import chi2, t

from birdclf.config import direction
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.intervals import ClusterCounts, bootstrap_intervals, wilson
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


def estimate(configuration: Configuration, metric: str, settings: Evaluation) -> Estimate | None:
    """Return a metric such as ``test/accuracy``: the run's interval for one seed, Student's for several.

    None where no run has it. No figure is below 0, and none that is better when higher is above 1, nor are its ends.
    """
    values = np.asarray(list(configuration.values(metric).values()))
    if not len(values):
        return None
    if len(values) == 1:
        low, high = _interval_of(
            next(r for r in configuration.runs.values() if r.figure(metric) is not None), metric, settings
        )
        return Estimate(float(values[0]), low, high, float("nan"), 1)
    sd = float(values.std(ddof=1))
    half = float(t.ppf(0.5 + settings.confidence / 2, len(values) - 1)) * sd / sqrt(len(values))
    mean, most = float(values.mean()), 1.0 if direction(metric) == "max" else float("inf")
    return Estimate(mean, max(mean - half, 0.0), min(mean + half, most), sd, len(values))


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
    if name == "accuracy":
        return wilson(int((run.test.target == run.test.prediction).sum()), len(run.test.target), settings.confidence)
    counts = ClusterCounts.of(run.test.target, run.test.prediction, run.test.cluster, len(run.classes))
    found = bootstrap_intervals(counts, run.train_counts, settings).get(name)
    return (found.low, found.high) if found else (float("nan"), float("nan"))
