"""Main effects and interactions of a factorial sweep: what each factor does on its own."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd

from birdclf.metrics.comparison import holm
from birdclf.metrics.figures import Vector
from birdclf.metrics.over_seeds import Influence, OverSeeds

Cell = tuple[str, ...]
"""A level of each factor."""
Measured = tuple[float, Influence]
"""A figure of one seed and its influence."""


def effects(cells: Mapping[Cell, Sequence[Measured]], factors: Sequence[str], confidence: float = 0.95) -> pd.DataFrame:
    """Return what each level, and each pair of levels beyond their sum, adds to the mean over all cells.

    Deviations sum to zero in each term (Montgomery, 2017, section 5.3). Each is a weighted sum of the cells' figures,
    which every seed measures once on the same test recordings; intervals and p-values are :class:`OverSeeds`'s of these
    sums, so that what a seed makes easier for all cells has no part in them.

    Args:
        cells: Figures of the same seeds, in the same order, for each combination of levels.
        factors: Names, of one level or more each; those of one are left out.
        confidence: Coverage of the intervals, in (0, 1).

    Returns:
        One row a level of each main effect and a cell of each two-way interaction: term, level, effect, low, high,
        p_value (adjusted for the number of different effects: Holm, 1979).

    Raises:
        ValueError: If no factor varies, a combination is missing, or cells hold unequal numbers of seeds.
    """
    names = list(cells)
    levels = [sorted({cell[i] for cell in names}) for i in range(len(factors))]
    varied = [i for i, found in enumerate(levels) if len(found) > 1]
    if not varied:
        raise ValueError("no factor has two levels")
    missing = [cell for cell in product(*levels) if cell not in cells]
    if missing:
        raise ValueError(f"{len(missing)} combinations have no run, such as {', '.join(missing[0])}")
    if len({len(measured) for measured in cells.values()}) > 1:
        raise ValueError("the combinations have unequal numbers of seeds")
    value = np.array([[figure for figure, _ in cells[cell]] for cell in names])
    seeds = range(value.shape[1])
    clusters = [np.unique(np.concatenate([measured[seed][1].cluster for measured in cells.values()])) for seed in seeds]
    loss = [np.stack([_spread(cells[cell][seed][1], clusters[seed]) for cell in names]) for seed in seeds]
    rows: list[dict[str, object]] = []
    p_values: dict[tuple[float, ...], float] = {}
    keys: list[tuple[float, ...]] = []
    for term in (term for order in (1, 2) for term in combinations(varied, order)):
        for level in product(*(levels[i] for i in term)):
            weight = _contrast(names, dict(zip(term, level, strict=True)))
            moved = [Influence(clusters[seed], weight @ loss[seed]) for seed in seeds]
            found = OverSeeds.of(weight @ value, moved)
            low, high = found.interval(confidence)
            key = tuple(np.round(weight * np.sign(weight[np.argmax(np.abs(weight) > 1e-9)]), 9))
            p_values[key] = found.p_value()  # mirror images, as of the two levels of a factor, are one
            keys.append(key)
            rows.append(
                {"term": " x ".join(factors[i] for i in term), "level": " x ".join(level), "effect": found.value}
                | {"low": low, "high": high}
            )
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return pd.DataFrame(rows).assign(p_value=[adjusted[key] for key in keys])


def _contrast(names: Sequence[Cell], level: Mapping[int, str]) -> Vector:
    """Return the weight of each cell in the deviation of a level, or of a pair of levels, from what lower terms say."""
    weight = np.zeros(len(names))
    for fixed in (fixed for order in range(len(level) + 1) for fixed in combinations(level, order)):
        inside = np.array([all(cell[i] == level[i] for i in fixed) for cell in names])
        weight += (-1) ** (len(level) - len(fixed)) * inside / inside.sum()
    return weight


def _spread(influence: Influence, clusters: np.ndarray[tuple[int], np.dtype[np.generic]]) -> Vector:
    """Return the influence of each of the clusters, 0 where it has none."""
    loss = np.zeros(len(clusters))
    loss[np.searchsorted(clusters, influence.cluster)] = influence.loss
    return loss
