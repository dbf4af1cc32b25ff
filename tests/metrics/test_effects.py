from itertools import product

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from birdclf.metrics.effects import effects


def sweep(seeds: int, factors: int = 2, seed: int = 0) -> pd.DataFrame:
    """Return a grid of 2 networks, 3 losses and perhaps 2 rates, with a real effect of the network."""
    levels = {"model": ["cnn", "v2"], "loss": ["ce", "focal", "ldam"], "rate": [0.001, 0.01]}
    names = list(levels)[:factors]
    rng = np.random.default_rng(seed)
    rows = [dict(zip(names, cell, strict=True)) for cell in product(*(levels[n] for n in names)) for _ in range(seeds)]
    table = pd.DataFrame(rows)
    return table.assign(f1=0.1 * (table.model == "v2") + rng.normal(0.3, 0.02, len(table)))


@pytest.mark.parametrize(
    ("table", "formula"),
    [
        (sweep(3), "C(model, Sum) * C(loss, Sum)"),
        (sweep(3, seed=1).drop(index=[0, 7]), "C(model, Sum) * C(loss, Sum)"),  # two runs failed
        (sweep(1), "C(model, Sum) + C(loss, Sum)"),
        (sweep(2, 3), "C(model, Sum) * C(loss, Sum) * C(rate, Sum)"),
        (sweep(1, 3), "(C(model, Sum) + C(loss, Sum) + C(rate, Sum)) ** 2"),
    ],
)
def test_every_term_is_statsmodels(table, formula):
    factors = [name for name in table.columns if name != "f1"]
    fit = ols(f"f1 ~ {formula}", table).fit()
    theirs = anova_lm(fit, typ=3)
    ours = effects(table, factors, "f1")
    assert ours.attrs["residual_df"] == fit.df_resid
    for term, rows in ours.groupby("term"):
        other = theirs.loc[":".join(f"C({name}, Sum)" for name in term.split(" x "))]
        assert rows.f.iloc[0] == pytest.approx(other["F"]) and rows.p_value.iloc[0] == pytest.approx(other["PR(>F)"])
        assert rows.df.iloc[0] == other["df"]
    low, high = fit.conf_int().loc["C(model, Sum)[S.cnn]"]
    row = ours[(ours.term == "model") & (ours.level == "cnn")].iloc[0]
    assert (row.effect, row.low, row.high) == pytest.approx((fit.params["C(model, Sum)[S.cnn]"], low, high))


def test_effects_by_hand():
    table = pd.DataFrame({"a": ["x", "x", "y", "y"] * 2, "b": ["p", "q"] * 4, "v": [1.0, 3, 2, 8, 1, 3, 2, 8]})
    table.loc[4:, "v"] += 0.2
    found = effects(table, ["a", "b"], "v").set_index(["term", "level"]).effect
    assert found["a", "y"] == pytest.approx(1.5) and found["b", "q"] == pytest.approx(2)
    assert found["a x b", "y x q"] == pytest.approx(1)  # 8.1 is 1 above 3.6 + 1.5 + 2


def test_deviations_sum_to_zero_and_say_where_the_error_is_from():
    ours = effects(sweep(3), ["model", "loss"], "f1")
    assert set(ours.term) == {"model", "loss", "model x loss"} and ours.groupby("term").effect.sum().abs().max() < 1e-12
    assert set(ours.residual) == {"replicates"} and (ours[ours.term == "loss"].runs == 6).all()
    single = effects(sweep(1), ["model", "loss"], "f1")
    assert set(single.term) == {"model", "loss"} and single.attrs["residual"] == "interaction model x loss"


def test_a_real_effect_is_found_and_the_order_of_runs_is_none():
    table = sweep(3)
    ours = effects(table, ["model", "loss"], "f1").groupby("term").p_value.first()
    assert ours["model"] < 1e-6 and ours["loss"] > 0.01
    shuffled = effects(table.sample(frac=1, random_state=0), ["model", "loss"], "f1").groupby("term").p_value.first()
    pd.testing.assert_series_equal(ours, shuffled)


@pytest.mark.parametrize(
    ("table", "factors", "words"),
    [
        (
            sweep(2)[lambda t: ~((t.model == "v2") & (t.loss == "ce"))],
            ["model", "loss"],
            "no run, such as model=v2, loss=ce",
        ),
        (sweep(1)[lambda t: t.loss == "ce"], ["model", "loss"], "one run for each model"),
        (sweep(2).iloc[:2], ["model", "loss"], "no factor has two levels"),
        (sweep(2), ["model", "width"], "no column width"),
        (sweep(2).assign(f1=np.nan), ["model"], "12 of 12 runs have no f1"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(table, factors, words):
    with pytest.raises(ValueError, match=words):
        effects(table, factors, "f1")
