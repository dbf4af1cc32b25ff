"""The tests between one configuration and each of the others, on the same recordings."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdclf.metrics.comparison import (
    Difference,
    McNemar,
    Statistic,
    class_differences,
    mcnemar,
    paired_bootstrap,
    paired_by_seed,
    why_not_comparable,
)
from birdclf.metrics.figures import Evaluation
from birdclf.report.configurations import Configuration
from birdclf.runs.run import Run

LEVEL: Final = 0.05
METRICS: Final[tuple[Statistic, ...]] = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class Pair:
    """Two runs on the same test recordings; differences are the reference minus its rival."""

    seeds: str
    mcnemar: McNemar
    difference: dict[str, Difference]  # by metric, of the paired cluster bootstrap


@dataclass
class Comparison:
    """A reference against a rival.

    Attributes:
        refused: Why they are not compared, empty if they are.
        pairs: One a seed that both have.
        by_seed: By metric, the test over seeds; empty where fewer than two seeds are shared.
        classes: Per-class differences of the first pair, whose ``q_value`` is the false discovery rate.
        adjusted: By metric, the p-value that decides, adjusted for the number of rivals (Holm, 1979).
    """

    rival: Configuration
    refused: str = ""
    pairs: list[Pair] = field(default_factory=list)
    by_seed: dict[str, Difference] = field(default_factory=dict)
    classes: pd.DataFrame = field(default_factory=pd.DataFrame)
    adjusted: dict[str, float] = field(default_factory=dict)

    def difference(self, metric: str) -> Difference:
        """Return the difference that decides: over seeds where there are several, else that of the one pair."""
        return self.by_seed.get(metric) or self.pairs[0].difference[metric]

    def p_value(self, metric: str) -> float:
        """Return the p-value that decides, as it is before the adjustment."""
        if metric in self.by_seed:
            return self.by_seed[metric].p_value
        return self.pairs[0].mcnemar.p_value if metric == "accuracy" else self.pairs[0].difference[metric].p_value

    def decided(self, metric: str) -> int:
        """Return 1 where the reference is better, -1 where the rival is, 0 where the tests do not decide."""
        if self.refused or not self.adjusted[metric] < LEVEL:
            return 0
        return 1 if self.difference(metric).value > 0 else -1


def compare(reference: Configuration, others: Sequence[Configuration], settings: Evaluation) -> list[Comparison]:
    """Return the tests of a reference against each of the others."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the draws and their sums run outside the interpreter's lock
        found = list(pool.map(lambda rival: _comparison(reference, rival, settings), others))
    tested = [comparison for comparison in found if not comparison.refused]
    for metric in METRICS:
        for comparison, p in zip(tested, holm([c.p_value(metric) for c in tested]), strict=True):
            comparison.adjusted[metric] = p
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being several, in their order (Holm, 1979)."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _comparison(reference: Configuration, rival: Configuration, settings: Evaluation) -> Comparison:
    shared = [seed for seed in reference.runs if seed in rival.runs]
    matched = [(reference.runs[s], rival.runs[s]) for s in shared] or [(reference.first, rival.first)]
    reasons = [why_not_comparable(a.test, b.test, a.classes, b.classes) for a, b in matched]
    usable = [pair for pair, reason in zip(matched, reasons, strict=True) if not reason]
    if not usable:
        seeds = "" if shared else "They share no seed, and the seed decides the split. "
        return Comparison(rival, refused=seeds + reasons[0])
    comparison = Comparison(rival, pairs=[_pair(a, b, settings) for a, b in usable])
    first, second = usable[0]
    test, other = first.test, _aligned(first, second)
    comparison.classes = class_differences(
        test.target, test.prediction, other, test.cluster, len(first.classes), settings
    )
    for metric in METRICS:
        values = [{i: p[side].figure(f"test/{metric}") or 0.0 for i, p in enumerate(usable)} for side in (0, 1)]
        difference = paired_by_seed(*values) if len(usable) > 1 else None
        if difference is not None:
            comparison.by_seed[metric] = difference
    return comparison


def _pair(a: Run, b: Run, settings: Evaluation) -> Pair:
    other = _aligned(a, b)
    target, predicted = a.test.target, a.test.prediction
    return Pair(
        a.seeds,
        mcnemar(predicted == target, other == target),
        {
            metric: paired_bootstrap(target, predicted, other, a.test.cluster, len(a.classes), settings, metric)
            for metric in METRICS
        },
    )


def _aligned(a: Run, b: Run) -> NDArray[np.int64]:
    """Return the predictions of ``b`` in the order of the recordings of ``a``."""
    predicted = dict(zip(b.test.recording_id, b.test.prediction, strict=True))
    return np.array([predicted[name] for name in a.test.recording_id], dtype=np.int64)
