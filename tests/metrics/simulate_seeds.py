"""Sweeps of configurations over seeds, simulated: how often is a verdict false, an interval right, a difference seen?

    python tests/metrics/simulate_seeds.py --reports 400 --cells quick

A population of recordings in clusters (recordists) and classes of unequal size. A configuration's answer to a recording
is right with a probability that depends on class, cluster, recording, configuration and their pairs, and on the seed's
training and split. Configurations are equal if these have equal distributions.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from birdclf.metrics.intervals import ClusterCounts
from birdclf.metrics.over_seeds import Sampling, posterior, sampling

CLASSES = {38: 8, 178: 20, 1662: 89}


@dataclass(frozen=True)
class Cell:
    """A design.

    Attributes:
        seeds: k.
        clips: Test recordings of a seed.
        one_split: Whether all seeds test the same recordings.
        clusters: Mean number of clips of a cluster; 1 for none.
        rivals: Configurations beside the reference.
        own: Standard deviation, in probits, of what a configuration adds to a cluster and to a recording for good.
        training: The same of what each training adds as a whole.
    """

    seeds: int
    clips: int
    one_split: bool = False
    clusters: int = 1
    rivals: int = 7
    own: float = 0.3
    training: float = 0.1


class Population:
    """Recordings that splits are drawn from."""

    def __init__(self, cell: Cell, rng: np.random.Generator) -> None:
        k = CLASSES[cell.clips]
        share = np.exp(-4 * np.arange(k) / k)
        n = int(cell.clips / 0.15)
        sizes = np.maximum(7, np.round(n * share / share.sum())).astype(int)
        self.classes = k
        self.target = np.repeat(np.arange(k), sizes)
        n = len(self.target)
        if cell.clusters == 1:
            self.cluster = np.arange(n)
        else:  # clusters lie within classes mostly, as recordists' do
            self.cluster = np.cumsum(rng.random(n) < 1 / cell.clusters)
        self.n, self.cell = n, cell
        self.common = rng.normal(0, 0.7, k)[self.target] - 1.2 * (self.target / k) + 0.9
        self.common += rng.normal(0, 0.5, self.cluster.max() + 1)[self.cluster] + rng.normal(0, 0.5, n)

    def split(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the rows of a test split: 15 % of each class, at least one."""
        rows = []
        for target in range(self.classes):
            own = np.flatnonzero(self.target == target)
            rows.append(rng.choice(own, max(1, round(0.15 * len(own))), replace=False))
        return np.concatenate(rows)

    def habits(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return what a configuration adds to each recording in every training."""
        own = self.cell.own / np.sqrt(2)
        return rng.normal(0, own, self.cluster.max() + 1)[self.cluster] + rng.normal(0, own, self.n)

    def answers(
        self, rows: NDArray[np.int64], habits: NDArray[np.float64], shift: float, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return the predicted classes of a training."""
        score = self.common[rows] + habits[rows] + shift + rng.normal(0, self.cell.training)
        right = rng.normal(size=len(rows)) < score
        others = self.target[rng.integers(0, self.n, len(rows))]
        return np.where(right, self.target[rows], others)


def sweep(cell: Cell, shifts: Sequence[float], rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    """Yield for each configuration its (values, influences) by metric over seeds, on equal splits."""
    population = Population(cell, rng)
    fixed = population.split(rng)
    splits = [fixed if cell.one_split else population.split(rng) for _ in range(cell.seeds)]
    for shift in shifts:
        habits = population.habits(rng)
        counts = []
        for rows in splits:
            predicted = population.answers(rows, habits, shift, rng)
            target, cluster = population.target[rows], population.cluster[rows]
            counts.append((np.unique(cluster), ClusterCounts.of(target, predicted, cluster, population.classes)))
        yield counts


def figures(counts: list[Any], metric: str) -> tuple[NDArray[np.float64], list[Any]]:
    """Return value and influence of a metric in each seed."""
    kind = "f1" if metric == "macro_f1" else "recall"
    values, influence = [], []
    for names, found in counts:
        support = found.total.support
        weight = (support > 0) / (support > 0).sum() if metric == "macro_f1" else support / support.sum()
        values.append(found.total.ratio(kind) @ weight)
        influence.append((names, found.influence(kind) @ weight))
    return np.array(values), influence


Method = Callable[[NDArray[np.float64], Sampling], tuple[float, float, float]]


def plain(values: NDArray[np.float64], _: Sampling) -> tuple[float, float, float]:
    """The paired t-test."""
    k = len(values)
    error = values.std(ddof=1) / np.sqrt(k)
    if error < 1e-12:
        return (1.0 if abs(values.mean()) < 1e-12 else 0.0), values.mean(), values.mean()
    half = stats.t.ppf(0.975, k - 1) * error
    return 2 * stats.t.sf(abs(values.mean()) / error, k - 1), values.mean() - half, values.mean() + half


def corrected(values: NDArray[np.float64], _: Sampling) -> tuple[float, float, float]:
    """The corrected resampled t-test (Nadeau and Bengio, 2003), 15 of 70 %."""
    k = len(values)
    error = values.std(ddof=1) * np.sqrt(1 / k + 15 / 70)
    if error < 1e-12:
        return (1.0 if abs(values.mean()) < 1e-12 else 0.0), values.mean(), values.mean()
    half = stats.t.ppf(0.975, k - 1) * error
    return 2 * stats.t.sf(abs(values.mean()) / error, k - 1), values.mean() - half, values.mean() + half


def knapp_hartung(values: NDArray[np.float64], variance: Sampling) -> tuple[float, float, float]:
    """Student's t with the sampling of recordings as a floor of the variance."""
    k = len(values)
    floor = variance.common + variance.own / k
    error = np.sqrt(max(values.var(ddof=1) / k + variance.common, floor))
    half = stats.t.ppf(0.975, k - 1) * error
    return 2 * stats.t.sf(abs(values.mean()) / error, k - 1), values.mean() - half, values.mean() + half


def integrated(scale: float) -> Method:
    """The spread over seeds integrated out, with a prior of this scale."""

    def method(values: NDArray[np.float64], variance: Sampling) -> tuple[float, float, float]:
        found = posterior(values, variance, scale)
        low, high = found.interval()
        return found.p_value(), low, high

    return method


METHODS: dict[str, Method] = {
    "plain t": plain,
    "corrected t": corrected,
    "floor": knapp_hartung,
    "integrated 0.5": integrated(0.5),
    "integrated 1": integrated(1.0),
    "integrated 2": integrated(2.0),
}


def holm_rejects(p: NDArray[np.float64], level: float = 0.05) -> bool:
    """Return whether Holm's procedure rejects any."""
    return bool(p.min() * len(p) < level)


def judge(cell: Cell, reports: int, seed: int, metric: str, shift: float = 0.0) -> dict[str, dict[str, float]]:
    """Return by method the share of reports with a false verdict, coverage and width, and power for a shift."""
    found = {name: {"false": 0.0, "coverage": 0.0, "width": 0.0, "power": 0.0} for name in METHODS}
    for number in range(reports):
        rng = np.random.default_rng([seed, number])
        configurations = [figures(c, metric) for c in sweep(cell, [0.0] * (1 + cell.rivals) + [shift], rng)]
        reference = configurations[0]
        results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in METHODS}
        for values, influence in configurations[1:]:
            gap = values - reference[0]
            moved = [(a[0], b[1] - a[1]) for a, b in zip(reference[1], influence, strict=True)]
            variance = sampling(moved)
            for name, method in METHODS.items():
                results[name].append(method(gap, variance))
        for name, rows in results.items():
            p, low, high = np.array(rows).T
            equal = slice(0, cell.rivals)
            found[name]["false"] += holm_rejects(p[equal])
            found[name]["coverage"] += float(((low <= 0) & (0 <= high))[equal].mean())
            found[name]["width"] += float((high - low)[equal].mean())
            found[name]["power"] += p[-1] < 0.05
    return {name: {key: value / reports for key, value in row.items()} for name, row in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reports", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 10, 20])
    parser.add_argument("--clips", type=int, nargs="+", default=[38, 178, 1662])
    parser.add_argument("--own", type=float, nargs="+", default=[0.0, 0.3])
    parser.add_argument("--training", type=float, nargs="+", default=[0.0, 0.1])
    parser.add_argument("--metrics", nargs="+", default=["accuracy", "macro_f1"])
    given = parser.parse_args()
    grid = itertools.product(given.clips, given.seeds, (False, True), (1, 4), (1, 7), given.own, given.training)
    for clips, seeds, one_split, clusters, rivals, own, training in grid:
        cell = Cell(seeds, clips, one_split, clusters, rivals, own, training)
        for metric in given.metrics:
            row = judge(cell, given.reports, 1, metric, shift=0.2)
            text = "; ".join(
                f"{name} {100 * f['false']:.1f} {100 * f['coverage']:.1f} {100 * f['width']:.1f} {100 * f['power']:.0f}"
                for name, f in row.items()
            )
            print(cell, metric, text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
