"""Coverage and width of intervals of sets of species, by simulation.

``python tests/metrics/simulate_label_intervals.py OUT.csv [N]``: soundscapes of 20 to 200 segments, 3 to 50 of them, 5
to 60 classes from common to rare, scorers from nearly useless to nearly perfect. Each soundscape has its own noise,
distance of the birds and, where sets differ, its own species. The truth is the mean of a figure over test sets drawn
alike. The oracle knows each figure's standard error: its interval is the score interval with as many clips as give it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from birdclf.metrics.figures import Evaluation
from birdclf.metrics.label_intervals import rate_interval, share_interval
from birdclf.metrics.label_predictions import LabelPredictions

Z = 1.959964


@dataclass(frozen=True)
class Cell:
    """A kind of test set and of scorer.

    Attributes:
        clusters: Soundscapes.
        classes: K; the commonest sings in 3 segments of 10, the rarest in 1 of 200, where they occur.
        skill: Distance of the mean scores of segments with and without the class, in standard deviations.
        differ: Whether soundscapes have their own species: the commonest in 9 of 10, the rarest in 1 of 10.
    """

    clusters: int
    classes: int
    skill: float
    differ: bool

    @property
    def train_counts(self) -> np.ndarray:
        """``(K,)`` train recordings of each class, so that there are many-, medium- and few-shot ones."""
        return np.round(np.geomspace(400, 4, self.classes)).astype(int)

    def test_sets(self, number: int, seed: int) -> Iterator[LabelPredictions]:
        """Yield test sets with other soundscapes and the same scorer."""
        own = np.random.default_rng(self.classes)
        skill = self.skill * own.uniform(0.6, 1.4, self.classes)
        common = np.geomspace(0.3, 0.005, self.classes)
        occurs = np.geomspace(0.9, 0.1, self.classes) if self.differ else np.ones(self.classes)
        rng = np.random.default_rng(seed)
        for _ in range(number):
            segments = np.exp(rng.uniform(np.log(20), np.log(200), self.clusters)).astype(int)
            member = np.repeat(np.arange(self.clusters), segments)
            shape = (self.clusters, self.classes)
            busy = np.minimum(common * rng.gamma(2, 0.5, shape), 0.9) * (rng.random(shape) < occurs)
            target = (rng.random((len(member), self.classes)) < busy[member]).astype(np.int8)
            noise = 0.4 * rng.standard_normal((self.clusters, 1)) + 0.4 * rng.standard_normal(shape)
            far = 1 + 0.3 * rng.standard_normal(shape)
            logits = rng.standard_normal(target.shape) + noise[member] + (skill * far)[member] * target
            logits = 1.5 * (logits - np.maximum(self.skill / 2, 1))
            ids = np.arange(len(member)).astype(object)
            yield LabelPredictions(ids, target, logits.astype(np.float32), member, np.full(len(member), 5.0))


RATE = "false_detections_per_hour"
FIGURES = ("cmap", "auroc", "t1_accuracy", "micro_f1", "macro_f1", "recall_at_precision", "precision_at_recall", RATE)
FIGURES += ("many_cmap", "medium_cmap", "few_cmap", "few_f1")


def oracle(value: np.ndarray, error: float, rate: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the score interval of values ``(S,)`` with as many clips, or hours, as give the true standard error."""
    mean = value.mean()
    if rate:
        n = mean / error**2
        centre, half = value + Z**2 / 2 / n, Z * np.sqrt(value / n + Z**2 / 4 / n**2)
        return np.maximum(centre - half, 0), centre + half
    n = max(mean * (1 - mean) / error**2, 1)
    centre, half = (value + Z**2 / 2 / n) / (1 + Z**2 / n), Z / (1 + Z**2 / n)
    half = half * np.sqrt(np.maximum(value * (1 - value), 0) / n + Z**2 / 4 / n**2)
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)


def measure(cell: Cell, number: int, seed: int = 1) -> pd.DataFrame:
    """Return one row a figure: coverage and median width over so many test sets, beside the oracle's."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in FIGURES}
    for predictions in cell.test_sets(number, seed):
        hours = predictions.duration_s[~predictions.target.any(axis=1)].sum() / 3600
        estimates = predictions.estimates(cell.train_counts, Evaluation())
        for name in FIGURES:
            estimate = estimates[name]
            limits = rate_interval(estimate, hours, 0.95) if name == RATE else share_interval(estimate, 0.95)
            found[name].append((float(estimate.value), *limits))
    rows = []
    for name, triples in found.items():
        table = np.array(triples)
        value, low, high = table[np.isfinite(table[:, 0])].T
        if len(value) < number / 4:  # hardly any test set has such a class
            continue
        truth, edge = value.mean(), 1e-9
        best = oracle(value, max(value.std(), 1e-9), name == RATE)
        row = {"figure": name, "truth": truth, "width": np.median(high - low)}
        row["coverage"] = ((low <= truth + edge) & (truth <= high + edge)).mean()
        row["ratio"] = row["width"] / np.median(best[1] - best[0])
        row["oracle"] = ((best[0] <= truth + edge) & (truth <= best[1] + edge)).mean()
        rows.append({**vars(cell), **row})
    return pd.DataFrame(rows)


CELLS = [
    cell
    for given in product((3, 8, 20, 50), (5, 20, 60), (0.1, 1.5, 3.0, 6.0), (True, False))
    if (cell := Cell(*given)).classes < 60 or cell.differ
]


def main(path: str, number: int = 240) -> None:
    """Measure every cell and write the table."""
    tables = []
    for cell in CELLS:
        tables.append(measure(cell, number))
        pd.concat(tables).to_csv(path, index=False)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
