"""A search's space is what Hydra's grammar says, and every value drawn from it is a word of that grammar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("optuna")

import optuna  # noqa: E402
from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: E402
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402

from birdclf.errors import UserError  # noqa: E402
from birdclf.sweep.trials import search_space, suggested  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize(
    ("word", "among"),
    [
        ("loss=focal,cross_entropy", CategoricalDistribution(["focal", "cross_entropy"])),
        ("loss=choice(focal,focal,'a b')", CategoricalDistribution(["focal", r"a\ b"])),
        ("model.width=choice(0.25,1)", CategoricalDistribution(["0.25", "1"])),
        ("loss.gamma=interval(0,5)", FloatDistribution(0, 5)),
        ("a.b=int(interval(2,6))", IntDistribution(2, 6)),
        ("lr=tag(log,interval(1e-5,1e-2))", FloatDistribution(1e-5, 1e-2, log=True)),
        ("n=range(1,8,2)", IntDistribution(1, 7, step=2)),
        ("n=range(8,1,-3)", IntDistribution(2, 8, step=3)),
        ("x=range(0,1,0.25)", FloatDistribution(0, 0.75, step=0.25)),
    ],
)
def test_each_kind_of_sweep(word: str, among: optuna.distributions.BaseDistribution):
    assert search_space([word]) == ({word.split("=")[0]: among}, [])


def test_the_last_word_of_a_key_counts():
    words = ["lr=interval(0,1)", "loss=a,b", "data=folder", "lr=0.1", "+x=1", "data=choice(folder,manifest)"]
    space, fixed = search_space(words)
    assert list(space) == ["loss", "data"] and fixed == ["lr=0.1", "+x=1"]


@pytest.mark.parametrize(
    "word", ["n=range(3,3)", "lr=tag(log,interval(0,1))", "lr=tag(wide,interval(1,2))", "x=interval(2,1)"]
)
def test_what_is_no_range_is_refused(word: str):
    with pytest.raises(UserError, match=word.split("(")[0]):
        search_space([word])


def test_a_drawn_number_has_four_digits_where_they_are_inside():
    space, _ = search_space(["lr=tag(log,interval(1e-5,1e-2))", "x=interval(1.23456,1.23457)", "y=range(0,2,0.12345)"])
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask()
    lr, x, y = (override.value() for override in OverridesParser.create().parse_overrides(suggested(trial, space)))
    assert lr == float(f"{lr:.4g}") != trial.params["lr"]
    assert (x, y) == (trial.params["x"], trial.params["y"])


@given(low=st.floats(1e-6, 1.0), span=st.floats(1e-6, 1e3), step=st.integers(1, 5), seed=st.integers(0, 9))
def test_every_draw_is_inside_and_reads_as_the_same_value(low: float, span: float, step: int, seed: int):
    space, _ = search_space([f"x=tag(log,interval({low!r},{low + span!r}))", f"n=range(1,30,{step})", "c='a,b',1e-3"])
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    words = suggested(trial, space)
    x, n, c = (override.value() for override in OverridesParser.create().parse_overrides(words))
    drawn = trial.params["x"]
    assert x in (drawn, float(f"{drawn:.4g}")) and low <= x <= low + span
    assert n == trial.params["n"] and n in range(1, 30, step)
    assert c in ("a,b", 1e-3) and suggested(trial, space) == words
