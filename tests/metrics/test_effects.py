from itertools import product

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols

from birdclf.metrics.comparison import holm
from birdclf.metrics.effects import effects
from birdclf.metrics.over_seeds import Influence, OverSeeds

LEVELS = {"model": ["cnn", "v2"], "loss": ["ce", "focal", "ldam"], "rate": ["0.001", "0.01"]}
CLUSTERS = np.arange(50)


def sweep(seeds: int, factors: int = 2, gain: float = 0.1, spread: float = 0.01):
    """Return a grid of 2 networks, 3 losses and perhaps 2 rates; of them the network alone does something."""
    rng = np.random.default_rng(seeds + factors)
    ease = rng.normal(0, 0.05, seeds)  # of a seed's test recordings, for all cells
    cells = {}
    for cell in product(*list(LEVELS.values())[:factors]):
        value = 0.3 + ease + gain * (cell[0] == "v2") + rng.normal(0, spread, seeds)
        cells[cell] = [(float(v), Influence(CLUSTERS, rng.normal(0, 0.01 / 7, 50))) for v in value]
    return cells, list(LEVELS)[:factors]


@pytest.mark.parametrize("factors", [2, 3])
def test_effects_are_the_coefficients_of_statsmodels(factors):
    cells, names = sweep(3, factors)
    rows = [dict(zip(names, cell, strict=True)) | {"f1": v} for cell, runs in cells.items() for v, _ in runs]
    fit = ols(f"f1 ~ {' * '.join(f'C({name}, Sum)' for name in names)}", pd.DataFrame(rows)).fit()
    found = effects(cells, names).set_index(["term", "level"]).effect
    for (term, level), effect in found.items():
        parts = [f"C({n}, Sum)[S.{v}]" for n, v in zip(term.split(" x "), level.split(" x "), strict=True)]
        if ":".join(parts) in fit.params:  # the last level of a factor has none: deviations sum to zero
            assert effect == pytest.approx(fit.params[":".join(parts)])
    assert found.groupby("term").sum().abs().max() < 1e-12
    assert len(found.groupby("term")) == {2: 3, 3: 6}[factors]


def test_an_effect_is_judged_as_a_difference_over_seeds():
    cells, names = sweep(4)
    found = effects(cells, names, confidence=0.9).set_index(["term", "level"])
    half = {"v2": 1 / 6, "cnn": -1 / 6}
    value = [sum(half[cell[0]] * runs[seed][0] for cell, runs in cells.items()) for seed in range(4)]
    loss = [sum(half[cell[0]] * runs[seed][1].loss for cell, runs in cells.items()) for seed in range(4)]
    over = OverSeeds.of(value, [Influence(CLUSTERS, each) for each in loss])
    row = found.loc["model", "v2"]
    assert (row.effect, row.low, row.high) == pytest.approx((over.value, *over.interval(0.9)))
    assert row.p_value == pytest.approx(over.p_value() * 7, rel=1e-6)  # 1 of networks, 3 of losses, 3 of both
    assert found.loc["model", "cnn"].p_value == row.p_value


def test_a_real_effect_is_found_and_the_ease_of_a_seed_is_none():
    found = effects(*sweep(5)).groupby("term").p_value.min()
    assert found["model"] < 0.001 and found["loss"] > 0.05 and found["model x loss"] > 0.05


def test_clusters_of_cells_need_not_be_the_same():
    cells = {(a,): [(v, Influence(np.array(names), np.array(loss)))] for a, v, names, loss in (
        ("x", 0.5, ["p", "q"], [0.1, -0.1]), ("y", 0.7, ["q", "r"], [0.1, -0.1]),
    )}  # fmt: skip
    found = effects(cells, ["a"]).set_index("level")
    over = OverSeeds.of([0.1], [Influence(np.array(["p", "q", "r"]), np.array([-0.05, 0.1, -0.05]))])
    assert (found.effect["y"], found.low["y"]) == pytest.approx((0.1, over.interval()[0]))
    assert holm([over.p_value()]) == pytest.approx([found.p_value["y"]])


def test_what_cannot_be_told_apart_is_refused():
    cells, names = sweep(2)
    lacking = {cell: runs for cell, runs in cells.items() if cell != ("v2", "ce")}
    with pytest.raises(ValueError, match="1 combinations have no run, such as v2, ce"):
        effects(lacking, names)
    with pytest.raises(ValueError, match="no factor has two levels"):
        effects({cell: runs for cell, runs in cells.items() if cell == ("v2", "ce")}, names)
    with pytest.raises(ValueError, match="unequal numbers of seeds"):
        effects(cells | {("v2", "ce"): cells["v2", "ce"][:1]}, names)
