"""Coverage and width of one run's intervals, by simulation: ``python tests/metrics/simulate_widths.py OUT.csv [N]``.

Classifiers from nearly perfect to nearly useless, 5 to 100 classes of 1 to 600 clips, alike or with rare classes that
are worse, clusters or none. The oracle knows the standard error of each figure: its interval is the score interval of a
proportion with as many clips as give that error. It does not know the figure itself.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from birdclf.metrics.figures import Evaluation
from birdclf.metrics.intervals import ClusterCounts, Counts, figure_intervals

Z = 1.959964
BLOCK = 2_000_000  # clips in one block of splits


@dataclass(frozen=True)
class Cell:
    """A kind of test split and of classifier.

    Attributes:
        classes: K.
        clips: Clips of each class: "1", "3", "10", or "tail", from 600 down to 1.
        skill: Typical probability of a right answer.
        uneven: Whether classes differ: log odds fall by 2 from the commonest to the rarest, with a standard deviation
            of 1 between classes.
        clustered: Whether clips are of recordists, whose log odds have a standard deviation of 1. Each three
            neighbouring classes share recordists of about three clips, some of far more.
    """

    classes: int
    clips: str
    skill: float
    uneven: bool
    clustered: bool

    @property
    def support(self) -> np.ndarray:
        """``(K,)`` clips of each class."""
        if self.clips == "tail":
            return np.maximum(np.round(np.geomspace(600, 0.6, self.classes)), 1).astype(int)
        return np.full(self.classes, int(self.clips))

    @property
    def target(self) -> np.ndarray:
        """``(N,)`` true classes."""
        return np.repeat(np.arange(self.classes), self.support)

    @property
    def train_counts(self) -> np.ndarray:
        """``(K,)`` train recordings of each class, so that there are many-, medium- and few-shot ones."""
        even = np.linspace(200, 3, self.classes)
        return np.round(self.support * 0.7 / 0.15 if self.clips == "tail" else even).astype(int)

    @property
    def log_odds(self) -> np.ndarray:
        """``(K,)`` log odds of a right answer, the same in all splits."""
        uneven = np.linspace(1, -1, self.classes) + np.random.default_rng(self.classes).standard_normal(self.classes)
        return logit(self.skill) + self.uneven * uneven

    def splits(self, number: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield blocks of splits, clusters and predictions ``(S, N)``."""
        rng = np.random.default_rng(seed)
        target, odds = self.target, self.log_odds[self.target]
        room = target // 3
        held = np.ceil(np.bincount(room) / 3).astype(int)
        popular = np.cumsum(self.support**0.7 / (self.support**0.7).sum())  # wrong answers are mostly common species
        while number > 0:
            shape = (min(number, max(1, BLOCK // len(target))), len(target))
            number -= shape[0]
            cluster, effect = np.broadcast_to(np.arange(shape[1]), shape), np.zeros(shape)
            if self.clustered:
                cluster = (rng.random(shape) ** 1.5 * held[room]).astype(int) + (held.cumsum() - held)[room]
                effect = np.take_along_axis(rng.standard_normal((shape[0], held.sum())), cluster, axis=1)
            right = rng.random(shape) < expit(odds + effect)
            guess = np.minimum(np.searchsorted(popular, rng.random(shape)), self.classes - 1)
            yield cluster, np.where(right, target, guess)

    def figures(self, prediction: np.ndarray) -> dict[str, np.ndarray]:
        """Return the figures of splits with predictions ``(S, N)``, ``(S,)`` each."""
        size = self.classes * np.arange(len(prediction))[:, None]

        def count(index: np.ndarray) -> np.ndarray:
            return np.bincount(index, minlength=self.classes * len(prediction)).reshape(-1, self.classes)

        hit = prediction == self.target
        counts = Counts(count((size + self.target)[hit]), self.support, count((size + prediction).ravel()))
        f1, recall, precision = (counts.ratio(kind) for kind in ("f1", "recall", "precision"))
        found = {"macro_f1": f1.mean(axis=1), "weighted_f1": f1 @ self.support / self.support.sum()}
        found["balanced_accuracy"] = recall.mean(axis=1)
        for name, inside in Evaluation().buckets(self.train_counts).items():
            if inside.any():
                for kind, each in (("f1", f1), ("recall", recall), ("precision", precision)):
                    found[f"{name}_{kind}"] = each[:, inside].mean(axis=1)
        return found


def measure(cell: Cell, number: int, intervals=figure_intervals) -> pd.DataFrame:
    """Return one row a figure: coverage and width over so many splits, beside the oracle's.

    Returns:
        Columns coverage, below and above (how often the interval lies there), width, ``width_99`` and ``oracle_width``
        (medians and 99th percentile), ``ratio`` of the medians, ``oracle`` (its coverage), ``normal`` (the width by the
        true standard error and the normal distribution) and ``atom`` (how often the figure has its commonest value).
    """
    blocks = [cell.figures(prediction) for _, prediction in cell.splits(2 * number, seed=1)]
    found = []
    values = []
    for cluster, prediction in cell.splits(number, seed=2):
        values.append(cell.figures(prediction))
        for group, answer in zip(cluster, prediction, strict=True):
            counts = ClusterCounts.of(cell.target, answer, group, cell.classes)
            found.append(intervals(counts, cell.train_counts, Evaluation(draws=200)))
    rows = []
    for name in blocks[0]:
        truth = np.concatenate([block[name] for block in blocks])
        mean, error = truth.mean(), max(truth.std(), 1e-9)
        low, high = np.array([row[name] for row in found]).T
        value = np.concatenate([block[name] for block in values])
        n = max(mean * (1 - mean) / error**2, 1)
        centre, half = (value + Z**2 / 2 / n) / (1 + Z**2 / n), Z / (1 + Z**2 / n)
        half = half * np.sqrt(np.maximum(value * (1 - value), 0) / n + Z**2 / 4 / n**2)
        oracle = np.minimum(centre + half, 1) - np.maximum(centre - half, 0)
        edge = 1e-9
        rows.append(
            {
                "figure": name,
                "truth": mean,
                "coverage": ((low <= mean + edge) & (mean <= high + edge)).mean(),
                "above": (low > mean + edge).mean(),
                "below": (high < mean - edge).mean(),
                "width": np.median(high - low),
                "width_99": np.quantile(high - low, 0.99),
                "oracle_width": np.median(oracle),
                "oracle_width_99": np.quantile(oracle, 0.99),
                "ratio": np.median(high - low) / np.median(oracle),
                "oracle": (np.abs(mean - centre) <= half + edge).mean(),
                "normal": 2 * Z * error,
                "atom": np.unique(value.round(9), return_counts=True)[1].max() / len(value),
            }
        )
    return pd.DataFrame([{**vars(cell), **row} for row in rows])


CELLS = [
    Cell(*given)
    for given in product(
        (5, 14, 40, 100), ("1", "3", "10", "tail"), (0.99, 0.9, 0.6, 0.2, 0.02), (False, True), (False, True)
    )
]


def main(path: str, number: int = 1_000) -> None:
    """Measure every cell, the largest ones on a tenth of the splits, and write the table."""
    tables = []
    for cell in CELLS:
        tables.append(measure(cell, number if len(cell.target) < 4_000 else max(number // 10, 10)))
        pd.concat(tables).to_csv(path, index=False)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
