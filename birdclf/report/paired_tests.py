"""The tests between one configuration and each of the others, on the same recordings."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.metrics.comparison import (
    Difference,
    McNemar,
    Statistic,
    class_differences,
    holm,
    mcnemar,
    paired_bootstrap,
    set_class_differences,
    why_not_comparable,
)
from birdclf.metrics.figures import Evaluation
from birdclf.metrics.label_predictions import LabelPredictions
from birdclf.metrics.over_seeds import Influence, OverSeeds
from birdclf.metrics.predictions import Predictions
from birdclf.report.configurations import Configuration
from birdclf.report.estimates import Measured, measured
from birdclf.runs.run import Run
from birdclf.targets import HEADLINES

LEVEL: Final = 0.05
METRICS: Final[tuple[Statistic, ...]] = ("accuracy", "macro_f1")  # of single_label


@dataclass(frozen=True)
class Pair:
    """Two runs on the same test recordings; differences are the reference minus its rival."""

    seeds: str
    mcnemar: McNemar | None  # None of sets
    difference: dict[str, Difference]  # by metric, of the paired cluster bootstrap, of sets of the cluster jackknife


Verdict = Literal["better", "worse", "no relevant difference", "undecided"]


@dataclass
class Comparison:
    """A reference against a rival.

    Attributes:
        rival: The configuration.
        margin: Share up to which a difference is not relevant.
        refused: Why they are not compared, empty if they are.
        pairs: One a seed that both have and that can be compared.
        over_seeds: By metric, what the pairs say of all seeds.
        by_seed: By metric, the test over seeds; empty where fewer than two seeds are shared.
        classes: Per-class differences of the first pair, whose ``q_value`` is the false discovery rate.
        adjusted: By metric, the p-value that decides, adjusted for the number of rivals (Holm, 1979).
        level: Level of a test that is adjusted for all rivals, from which it is said what could have been seen.
    """

    rival: Configuration
    margin: float = 0.0
    refused: str = ""
    pairs: list[Pair] = field(default_factory=list)
    over_seeds: dict[str, OverSeeds] = field(default_factory=dict)
    by_seed: dict[str, Difference] = field(default_factory=dict)
    classes: pd.DataFrame = field(default_factory=pd.DataFrame)
    adjusted: dict[str, float] = field(default_factory=dict)
    level: float = LEVEL

    def difference(self, metric: str) -> Difference:
        """Return the difference that decides: over seeds where there are several, else that of the one pair."""
        return self.by_seed.get(metric) or self.pairs[0].difference[metric]

    def p_value(self, metric: str) -> float:
        """Return the p-value that decides, as it is before the adjustment."""
        if metric in self.by_seed:
            return self.by_seed[metric].p_value
        pair = self.pairs[0]
        return pair.mcnemar.p_value if metric == "accuracy" and pair.mcnemar else pair.difference[metric].p_value

    def decided(self, metric: str) -> int:
        """Return 1 where the reference is better, -1 where the rival is, 0 where the tests do not decide."""
        if self.refused or not self.adjusted[metric] < LEVEL:
            return 0
        return 1 if self.difference(metric).value > 0 else -1

    def verdict(self, metric: str) -> Verdict:
        """Return the verdict on the reference; no difference is relevant where the interval lies within the margin."""
        if decided := self.decided(metric):
            return "better" if decided > 0 else "worse"
        difference = self.difference(metric)
        within = -self.margin <= difference.low and difference.high <= self.margin
        return "no relevant difference" if within else "undecided"

    def detectable(self, metric: str) -> float:
        """Return the least difference that these runs would have shown with power 0.8."""
        return self.over_seeds[metric].detectable(self.level)

    def seeds_needed(self, metric: str, difference: float | None = None) -> int | None:
        """Return how many seeds show a difference with power 0.8, at the spread seen; None where 200 would not.

        The difference is the one that was seen, or the margin where that is more.
        """
        found = self.over_seeds[metric]
        return found.seeds_needed(difference or max(abs(found.value), self.margin, 1e-3), self.level)


def compare(reference: Configuration, others: Sequence[Configuration], settings: Evaluation) -> list[Comparison]:
    """Return the tests of a reference against each of the others."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the draws and their sums run outside the interpreter's lock
        found = list(pool.map(lambda rival: _comparison(reference, rival, settings), others))
    tested = [comparison for comparison in found if not comparison.refused]
    for comparison in tested:
        comparison.level = LEVEL / len(tested)
    for metric in reference.headlines:
        for comparison, p in zip(tested, holm([c.p_value(metric) for c in tested]), strict=True):
            comparison.adjusted[metric] = p
    return found


def _comparison(reference: Configuration, rival: Configuration, settings: Evaluation) -> Comparison:
    shared = [seed for seed in reference.runs if seed in rival.runs]
    matched = [(reference.runs[s], rival.runs[s]) for s in shared] or [(reference.first, rival.first)]
    reasons = [why_not_comparable(a.test, b.test, a.classes, b.classes) for a, b in matched]
    usable = [pair for pair, reason in zip(matched, reasons, strict=True) if not reason]
    if not usable:
        seeds = "" if shared else "They share no seed, and the seed decides the split. "
        return Comparison(rival, settings.margin, refused=seeds + reasons[0])
    comparison = Comparison(rival, settings.margin, pairs=[_pair(a, b, settings) for a, b in usable])
    comparison.classes = _classes(*usable[0], settings)
    for metric in reference.headlines:
        over = _over_seeds(usable, f"test/{metric}", settings)
        comparison.over_seeds[metric] = over
        if len(usable) > 1:
            comparison.by_seed[metric] = _difference(over, settings)
    return comparison


def _classes(a: Run, b: Run, settings: Evaluation) -> pd.DataFrame:
    one, other = a.test, b.test
    if isinstance(one, Predictions) and isinstance(other, Predictions):
        return class_differences(
            one.target, one.prediction, _aligned(one, other), one.cluster, len(a.classes), settings
        )
    assert isinstance(one, LabelPredictions) and isinstance(other, LabelPredictions), "they can be compared"
    return set_class_differences(one, other, settings)


def _difference(over: OverSeeds, settings: Evaluation) -> Difference:
    return Difference(over.value, *over.interval(settings.confidence), over.p_value())


def _over_seeds(pairs: Sequence[tuple[Run, Run]], metric: str, settings: Evaluation) -> OverSeeds:
    """Return what pairs of runs say of the first's figure minus the second's."""
    values, influence = [], []
    for pair in pairs:
        (a, moved), (b, other) = (_measured(run, metric, settings) for run in pair)
        values.append(a - b)
        # Both name their clusters in sorted order, and they are the same.
        influence.append(Influence(moved.cluster, moved.loss - other.loss))
    return OverSeeds.of(values, influence)


def _measured(run: Run, metric: str, settings: Evaluation) -> Measured:
    found = measured(run, metric, settings)
    assert found, "every run has the figures that it is compared by"
    return found


def _pair(a: Run, b: Run, settings: Evaluation) -> Pair:
    if not (isinstance(a.test, Predictions) and isinstance(b.test, Predictions)):
        over = {metric: _over_seeds([(a, b)], f"test/{metric}", settings) for metric in HEADLINES[a.task]}
        return Pair(a.seeds, None, {metric: _difference(found, settings) for metric, found in over.items()})
    other = _aligned(a.test, b.test)
    target, predicted = a.test.target, a.test.prediction
    return Pair(
        a.seeds,
        mcnemar(predicted == target, other == target),
        {
            metric: paired_bootstrap(target, predicted, other, a.test.cluster, len(a.classes), settings, metric)
            for metric in METRICS
        },
    )


def _aligned(a: Predictions, b: Predictions) -> NDArray[np.int64]:
    """Return the predictions of ``b`` in the order of the recordings of ``a``."""
    predicted = dict(zip(b.recording_id, b.prediction, strict=True))
    return np.array([predicted[name] for name in a.recording_id], dtype=np.int64)
