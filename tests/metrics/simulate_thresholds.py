"""Thresholds for precision 0.9 chosen on one set of soundscapes and judged on another, simulated.

    python tests/metrics/simulate_thresholds.py thresholds.csv --worlds 20

30 species have from none to 500 positives among 2,400 segments of 60 recordings. The logit of a segment's score is
drawn from a normal distribution, of a higher mean where the species is heard, and each recording shifts it. Species
differ in how well they are told apart and, unless scores are calibrated, in how far the score is from a probability.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm

from birdclf.metrics.intervals import score
from birdclf.metrics.thresholds import SpeciesThreshold, fit_thresholds

Scores = NDArray[np.float32]
Labels = NDArray[np.int8]
SPECIES, RECORDINGS, SEGMENTS, PRECISION, FEW = 30, 60, 40, 0.9, 20
CLUSTER = np.repeat(np.arange(RECORDINGS), SEGMENTS)
KINDS = ("calibrated", "miscalibrated", "unequal spread", "confused", "long tail")
"""``unequal spread``: positives vary more or less than negatives, so that no logistic curve fits; ``confused``: in some
recordings another sound scores high; ``long tail``: scores of negatives have an exponential tail. All but the first are
miscalibrated too."""


@dataclass(frozen=True)
class World:
    """Species and their scores, from which sets of soundscapes are drawn."""

    kind: str
    seed: int

    def sets(self, number: int) -> Iterator[tuple[Scores, Labels]]:
        """Yield scores ``(N, K)`` and labels ``(N, K)`` of sets of soundscapes."""
        rng = np.random.default_rng([self.seed, KINDS.index(self.kind)])
        k = SPECIES
        share = np.round(np.geomspace(0.3, 500, k)) / (RECORDINGS * SEGMENTS)
        apart, base = rng.normal(6.5, 1.2, k), rng.normal(-6, 1, k)
        scale, shift, spread, confused = np.ones(k), np.zeros(k), np.full(k, 2.0), np.zeros(k)
        if self.kind != "calibrated":
            scale, shift = np.exp(rng.normal(0.3, 0.3, k)), rng.normal(0, 1, k)
        if self.kind in ("unequal spread", "confused", "long tail"):
            spread = 2 * np.exp(rng.normal(0, 0.25, k))
        if self.kind == "confused":
            confused = np.where(rng.random(k) < 0.5, 0.03, 0.0)
        for _ in range(number):
            present = np.minimum(
                0.9, share * SEGMENTS / 8
            )  # recordings with the species; it sings in 8 segments of each
            sings = (rng.random((RECORDINGS, k)) < present) * share / np.maximum(present, 1e-9)
            sings *= np.exp(rng.normal(-0.125, 0.5, (RECORDINGS, k)))
            heard = rng.random((len(CLUSTER), k)) < np.minimum(sings, 0.95)[CLUSTER]
            x = base + rng.normal(0, 0.7, (RECORDINGS, k))[CLUSTER]
            noise = rng.standard_normal(heard.shape)
            negative = (
                x + 2 * noise + 5 * (rng.random((RECORDINGS, k)) < confused)[CLUSTER] * (rng.random(heard.shape) < 0.1)
            )
            if self.kind == "long tail":
                negative = x - 5 + noise + rng.exponential(1.3, heard.shape) * (rng.random(heard.shape) < 0.5)
            x = np.where(heard, x + apart + spread * noise, negative)
            yield expit(x * scale + shift).astype(np.float32), heard.astype(np.int8)


def empirical(p: Scores, heard: Labels) -> NDArray[np.float64]:
    """Return the lowest score of each species from which its own detections reach the precision."""
    found = np.full(p.shape[1], np.nan)
    for k in range(p.shape[1]):
        order = np.argsort(-p[:, k])
        reached = np.flatnonzero(heard[order, k].cumsum() / np.arange(1, len(p) + 1) >= PRECISION)
        if len(reached):
            found[k] = p[order[reached[-1]], k]
    return found


def thresholds(p: Scores, heard: Labels) -> dict[str, NDArray[np.float64]]:
    """Return the thresholds ``(K,)`` of each method."""
    together = fit_thresholds(p.reshape(-1, 1), heard.reshape(-1, 1), np.repeat(CLUSTER, p.shape[1]), PRECISION)[0]
    apart = [
        fit_thresholds(p[:, [k]], heard[:, [k]], CLUSTER, PRECISION)[0].threshold if heard[:, k].any() else np.nan
        for k in range(p.shape[1])
    ]
    return {
        "partial pooling": np.array([one.threshold for one in fit_thresholds(p, heard, CLUSTER, PRECISION)]),
        "a calibration each": np.array(apart),
        "one calibration": np.full(p.shape[1], together.threshold),
        "own detections": empirical(p, heard),
    }


def measured(right: NDArray[np.bool_], cluster: NDArray[np.int64]) -> tuple[float, float, float]:
    """Return the precision of detections ``(n,)`` and its 95 % score interval, with the design effect of clusters."""
    n, share = len(right), float(right.mean())
    hits, all_ = np.bincount(cluster, right), np.bincount(cluster)
    clusters = int((all_ > 0).sum())
    effect = n / clusters
    if 0 < share < 1 and clusters > 1:
        effect = ((hits - share * all_) ** 2).sum() * clusters / (clusters - 1) / (n * share * (1 - share))
    low, high = score(np.array(share), np.array(n / max(effect, 1)), np.array(norm.ppf(0.975)))
    return share, float(low), float(high)


def coverage(fitted: list[SpeciesThreshold], p: Scores, heard: Labels) -> tuple[float, float]:
    """Return how often the true precision is within the interval of a species that has 20 detections, or below it."""
    found = []
    for k, one in enumerate(fitted):
        right = heard[p[:, k] >= np.float32(np.nan_to_num(one.threshold, nan=2)), k]
        if len(right) >= 20:
            found.append((one.low <= right.mean() <= one.high, right.mean() < one.low))
    return tuple(np.mean(found, axis=0).tolist())


def judge(kind: str, worlds: int, seed: int = 0) -> list[dict[str, object]]:
    """Return one row a world and method: how the promise is kept on another set, and at what recall."""
    rows: list[dict[str, object]] = []
    for world in range(seed, seed + worlds):
        (p, heard), (new_p, new), *more = World(kind, world).sets(5)
        large_p, large = (np.concatenate(part) for part in zip(*more, strict=True))
        best = empirical(large_p, large)
        covered = coverage(fit_thresholds(p, heard, CLUSTER, PRECISION), large_p, large)
        for method, threshold in thresholds(p, heard).items():
            found = new_p >= np.where(np.isnan(threshold), 2, threshold).astype(np.float32)
            verdicts = np.array([
                measured(new[d, k] == 1, CLUSTER[d]) for k in range(SPECIES) if (d := found[:, k]).any()
            ])  # fmt: skip
            segment, k = np.nonzero(found)
            value, low, high = measured(new[segment, k] == 1, CLUSTER[segment])
            own = new.sum(axis=0) > 0
            ideal = ((new_p >= np.where(np.isnan(best), 2, best)) & (new == 1)).sum()
            low_k, high_k = verdicts[:, 1], verdicts[:, 2]
            few = found[:, heard.sum(axis=0) < FEW]
            rows.append({
                "kind": kind, "world": world, "method": method, "precision": value, "held": low <= PRECISION <= high,
                "broken": high < PRECISION, "held_species": ((low_k <= PRECISION) & (high_k >= PRECISION)).mean(),
                "broken_species": (high_k < PRECISION).mean(), "species": len(verdicts),
                "few_right": int((few & (new[:, heard.sum(axis=0) < FEW] == 1)).sum()), "few": int(few.sum()),
                "recall": float((found & (new == 1))[:, own].sum() / new.sum()),
                "ideal": float(ideal / new.sum()), "covered": covered[0], "under": covered[1],
            })  # fmt: skip
    return rows


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the means over worlds."""
    groups = rows.groupby(["kind", "method"], sort=False)
    found = groups[
        [
            "precision",
            "held",
            "broken",
            "held_species",
            "broken_species",
            "species",
            "recall",
            "ideal",
            "covered",
            "under",
        ]
    ].mean()
    return found.assign(few=groups.few_right.sum() / groups.few.sum())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--worlds", type=int, default=20)
    arguments = parser.parse_args()
    judged = pd.DataFrame([row for kind in KINDS for row in judge(kind, arguments.worlds)])
    judged.to_csv(arguments.out, index=False)
    print(table(judged).round(3).to_string())
