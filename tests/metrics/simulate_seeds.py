"""Sweeps of configurations over seeds, simulated: how often is a verdict false, an interval right, a difference seen?

    python tests/metrics/simulate_seeds.py seeds.csv --sweeps 100

A population of recordings in clusters (recordists) and classes of unequal size, of which each seed tests 15 %. A
configuration's answer to a recording is right with a probability that depends on class, cluster, recording, what the
configuration makes of the cluster and of the recording in every training (its habits), and each training as a whole.
Configurations are equal if their habits have equal distributions.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from birdclf.metrics.figures import Evaluation
from birdclf.metrics.intervals import ClusterCounts, class_means
from birdclf.metrics.over_seeds import Influence, OverSeeds, Sampling, sampling

Vector = NDArray[np.float64]
CLASSES = {38: 8, 178: 20, 1662: 89}
"""Classes of a test split by its number of clips."""
SEEDS = (2, 3, 5, 10, 20)
METRICS = ("accuracy", "macro_f1")
SHIFTS = (0.1, 0.25, 0.5)
"""In probits: about 2, 5 and 10 points of accuracy."""
RIVALS = 7


@dataclass(frozen=True)
class Cell:
    """A design.

    Attributes:
        clips: Test recordings of a seed.
        one_split: Whether all seeds test the same recordings.
        clusters: Mean number of clips of a cluster; 1 for none.
        habit: Standard deviation, in probits, of what a configuration adds to a cluster and to a recording for good.
        training: The same of what each training adds as a whole.
    """

    clips: int
    one_split: bool = False
    clusters: int = 1
    habit: float = 0.3
    training: float = 0.05


class Population:
    """Recordings that splits are drawn from."""

    def __init__(self, cell: Cell, rng: np.random.Generator) -> None:
        k = CLASSES[cell.clips]
        share = np.exp(-4 * np.arange(k) / k)
        sizes = np.maximum(7, np.round(cell.clips / 0.15 * share / share.sum())).astype(int)
        self.target = np.repeat(np.arange(k), sizes)
        self.cell, self.classes, self.n = cell, k, len(self.target)
        alone = cell.clusters == 1
        self.cluster = np.arange(self.n) if alone else np.cumsum(rng.random(self.n) < 1 / cell.clusters)
        self.ease = 0.9 - 1.2 * self.target / k + rng.normal(0, 0.7, k)[self.target]
        self.ease += rng.normal(0, 0.5, self.n + 1)[self.cluster] + rng.normal(0, 0.5, self.n)

    def split(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the rows of a test split: 15 % of each class, at least one."""
        rows = [np.flatnonzero(self.target == k) for k in range(self.classes)]
        return np.concatenate([rng.choice(own, max(1, round(0.15 * len(own))), replace=False) for own in rows])

    def habits(self, rng: np.random.Generator) -> Vector:
        """Return what a configuration adds to each recording in every training."""
        each = self.cell.habit / np.sqrt(2)
        return rng.normal(0, each, self.n + 1)[self.cluster] + rng.normal(0, each, self.n)

    def answers(self, rows: NDArray[np.int64], skill: Vector, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the predicted classes of a training."""
        right = rng.normal(size=len(rows)) < self.ease[rows] + skill[rows] + rng.normal(0, self.cell.training)
        return np.where(right, self.target[rows], self.target[rng.integers(0, self.n, len(rows))])


class Measured(NamedTuple):
    """A figure of one training, and what it loses without each of the clusters ``names``."""

    value: float
    names: NDArray[np.int64]
    influence: Vector


def figures(population: Population, rows: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, Measured]:
    """Return accuracy and macro F1 of a training."""
    target, cluster = population.target[rows], population.cluster[rows]
    counts = ClusterCounts.of(target, predicted, cluster, population.classes)
    means = class_means(counts.total.support, np.full(population.classes, 50), Evaluation())
    found = {}
    for metric in METRICS:
        kind, weight = means[metric]
        value, influence = float(counts.total.ratio(kind) @ weight), counts.influence(kind, least=2) @ weight
        found[metric] = Measured(value, np.unique(cluster), influence)
    return found


def sweep(cell: Cell, shifts: Sequence[float], seeds: int, rng: np.random.Generator) -> list[list[dict[str, Measured]]]:
    """Return the figures of each configuration (outer) and seed (inner), all on the same splits."""
    population = Population(cell, rng)
    fixed = population.split(rng)
    splits = [fixed if cell.one_split else population.split(rng) for _ in range(seeds)]
    skills = [population.habits(rng) + shift for shift in shifts]
    return [[figures(population, rows, population.answers(rows, skill, rng)) for rows in splits] for skill in skills]


class Gaps(NamedTuple):
    """Differences of a reference and its rivals over seeds, ``(R, k)``, and their :class:`Sampling`, ``(R,)`` each."""

    value: Vector
    own: Vector
    common: Vector
    freedom: Vector


def gaps(reference: Sequence[Measured], rivals: Sequence[Sequence[Measured]]) -> Gaps:
    """Return the differences of each rival and the reference."""
    value, choices = [], []
    for rival in rivals:
        pairs = list(zip(reference, rival, strict=True))
        value.append([b.value - a.value for a, b in pairs])
        choices.append(sampling([Influence(a.names, b.influence - a.influence) for a, b in pairs]))
    own, common, freedom, _ = map(np.array, zip(*choices, strict=True))
    return Gaps(np.array(value), own, common, freedom)


Method = Callable[[Gaps, Vector], Vector]
"""From gaps and a true difference ``(R,)`` to p-values ``(R,)``; the interval holds the truth if its p is over 0.05."""


def _t(distance: Vector, error: Vector, freedom: "float | Vector") -> Vector:
    ratio = np.divide(distance, error, out=np.where(distance > 0, np.inf, 0.0), where=error > 0)
    return np.asarray(2 * stats.t.sf(ratio, freedom))


def plain(g: Gaps, null: Vector) -> Vector:
    """The paired t-test."""
    k = g.value.shape[1]
    return _t(abs(g.value.mean(axis=1) - null), g.value.std(axis=1, ddof=1) / np.sqrt(k), k - 1)


def corrected(g: Gaps, null: Vector) -> Vector:
    """The corrected resampled t-test (Nadeau and Bengio, 2003), 15 of 70 %."""
    k = g.value.shape[1]
    error = g.value.std(axis=1, ddof=1) * np.sqrt(1 / k + 15 / 70)
    return _t(abs(g.value.mean(axis=1) - null), error, k - 1)


def floor(g: Gaps, null: Vector) -> Vector:
    """Student's t with the sampling of recordings as a floor of the variance (Knapp and Hartung, 2003)."""
    k = g.value.shape[1]
    error = np.sqrt(g.common + np.maximum(g.value.var(axis=1, ddof=1), g.own) / k)
    return _t(abs(g.value.mean(axis=1) - null), error, k - 1)


def satterthwaite(g: Gaps, null: Vector) -> Vector:
    """The same, with degrees of freedom of the sum of both variances."""
    k = g.value.shape[1]
    extra = np.maximum(g.value.var(axis=1, ddof=1) - g.own, 0) / k
    sampled = g.common + g.own / k
    freedom = (sampled + extra) ** 2 / np.maximum(sampled**2 / g.freedom + extra**2 / (k - 1), 1e-300)
    return _t(abs(g.value.mean(axis=1) - null), np.sqrt(sampled + extra), freedom)


def integrated(scale: float, tail: float = 1.0, relative: bool = False) -> Method:
    """The spread over seeds integrated out; half-t prior with ``tail`` degrees of freedom (inf: half-normal)."""

    def method(g: Gaps, null: Vector) -> Vector:
        k = g.value.shape[1]
        unit = scale * (np.sqrt(g.own + g.common) if relative else np.ones(len(g.own)))
        unit = unit[:, None]
        spread = unit * np.concatenate([[0], np.geomspace(0.01, 200 if tail < 50 else 6, 150)])
        step = np.gradient(spread, axis=1)
        each = np.maximum(g.own[:, None], 1e-8) + spread**2
        squares = ((g.value - g.value.mean(axis=1, keepdims=True)) ** 2).sum(axis=1, keepdims=True)
        ratio = (spread / unit) ** 2
        prior = -ratio / 2 if tail > 50 else -(tail + 1) / 2 * np.log1p(ratio / tail)
        log = prior - (k - 1) / 2 * np.log(each) - squares / (2 * each)
        weight = step * np.exp(log - log.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        distance = abs(g.value.mean(axis=1) - null)[:, None]
        error = np.sqrt(g.common[:, None] + each / k)
        return np.asarray((weight * 2 * stats.t.sf(distance / error, g.freedom[:, None])).sum(axis=1))

    return method


def over_seeds(g: Gaps, null: Vector) -> Vector:
    """What birdclf does."""
    choices = (Sampling(*map(float, each)) for each in zip(g.own, g.common, g.freedom, strict=True))
    return np.array([OverSeeds(v, c).p_value(n) for v, c, n in zip(g.value, choices, null, strict=True)])


METHODS: dict[str, Method] = {
    "over seeds": over_seeds,
    "paired t": plain,
    "corrected t": corrected,
    "floor": floor,
    "Satterthwaite": satterthwaite,
    "half-normal, half the sampling error": integrated(0.5, 100, True),
    "half-normal 0.02": integrated(0.02, 100),
    "half-Cauchy 0.01": integrated(0.01),
    "half-Cauchy 0.04": integrated(0.04),
}


def judge(cell: Cell, sweeps: int, seed: int = 1, seeds: Sequence[int] = SEEDS) -> Iterator[dict[str, object]]:
    """Yield a row by metric, number of seeds and method.

    The seeds of a sweep are cut into parts of k, each a report of its own. ``false`` of 7 rivals and of 1 are shares of
    reports in which Holm's procedure calls an equal configuration different; ``covered`` shares of intervals that hold
    the truth, of equal and different configurations; ``power`` by true difference, without adjustment.
    """
    shifts = [0.0] * (1 + RIVALS) + list(SHIFTS)
    results = [sweep(cell, shifts, max(seeds), np.random.default_rng([seed, number])) for number in range(sweeps)]
    for metric in METRICS:
        values = np.array([[[m[metric].value for m in runs] for runs in found] for found in results]).mean(axis=(0, 2))
        truth = np.concatenate([np.zeros(RIVALS), values[1 + RIVALS :] - values[: 1 + RIVALS].mean()])
        for k in seeds:
            p: dict[str, list[tuple[Vector, Vector]]] = {name: [] for name in METHODS}
            for found in results:
                for begin in range(0, max(seeds) - k + 1, k):
                    chosen = [[m[metric] for m in runs[begin : begin + k]] for runs in found]
                    g = gaps(chosen[0], chosen[1:])
                    for name, method in METHODS.items():
                        p[name].append((method(g, np.zeros(len(truth))), method(g, truth)))
            for name, pairs in p.items():
                of_zero, of_truth = (np.array(column) for column in zip(*pairs, strict=True))
                yield {
                    "metric": metric,
                    "seeds": k,
                    "method": name,
                    "false7": 100 * float((of_zero[:, :RIVALS].min(axis=1) * RIVALS < 0.05).mean()),
                    "false1": 100 * float((of_zero[:, :RIVALS] < 0.05).mean()),
                    "covered": 100 * float((of_truth[:, :RIVALS] >= 0.05).mean()),
                    "covered_shifted": 100 * float((of_truth[:, RIVALS:] >= 0.05).mean()),
                    **{f"gap{i}": 100 * gap for i, gap in enumerate(truth[RIVALS:])},
                    **{f"power{i}": 100 * float(share) for i, share in enumerate((of_zero[:, RIVALS:] < 0.05).mean(0))},
                }


def cells(clips: Sequence[int], habit: Sequence[float], training: Sequence[float]) -> Iterator[Cell]:
    """Yield the designs of a grid, both ways to split and with and without clusters."""
    for values in itertools.product(clips, (False, True), (1, 4), habit, training):
        yield Cell(*values)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("table", help="CSV file to write")
    parser.add_argument("--sweeps", type=int, default=100, help="sweeps of 20 seeds a design")
    parser.add_argument("--clips", type=int, nargs="+", default=list(CLASSES))
    parser.add_argument("--habit", type=float, nargs="+", default=[0.3])
    parser.add_argument("--training", type=float, nargs="+", default=[0.0, 0.05, 0.1])
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    for cell in cells(given.clips, given.habit, given.training):
        rows += [{**asdict(cell), **row} for row in judge(cell, given.sweeps)]
        pd.DataFrame(rows).to_csv(given.table, index=False)


if __name__ == "__main__":
    sys.exit(main())
