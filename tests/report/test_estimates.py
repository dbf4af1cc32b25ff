import numpy as np
import pytest
from made_up_runs import configured, write_run
from scipy import stats

from birdclf.metrics.figures import Evaluation
from birdclf.report.estimates import estimate, spread

SETTINGS = Evaluation(draws=200)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    for seed in (1, 2, 3, 4):
        write_run(folder / f"{seed}_run", seed=seed)
    return configured(folder)[0][0]


def test_several_seeds_have_students_interval(seeds):
    values = list(seeds.values("test/accuracy").values())
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    found = estimate(seeds, "test/accuracy", SETTINGS)
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert "±" in found.cell().text and found.basis == "of the mean over 4 seeds"


def test_the_spread_of_seeds_has_the_interval_of_a_variance(seeds):
    values = list(seeds.values("test/accuracy").values())
    found = spread(seeds, "test/accuracy", SETTINGS)
    ratio = 3 * np.var(values, ddof=1) / np.array([found.high, found.low]) ** 2
    assert stats.chi2.cdf(ratio, 3) == pytest.approx([0.025, 0.975])


def test_one_seed_has_the_interval_of_its_run(tmp_path):
    one = configured(write_run(tmp_path / "run"))[0][0]
    stored = one.first.metrics["test"]["macro_f1"]
    found = estimate(one, "test/macro_f1", SETTINGS)
    assert (found.low, found.high) == (stored["low"], stored["high"]) and found.seeds == 1
    few = estimate(one, "test/few_f1", SETTINGS)
    assert few.low <= few.value <= few.high
    assert np.isnan(estimate(one, "val/nll", SETTINGS).low)
    assert spread(one, "test/accuracy", SETTINGS) is None and estimate(one, "test/beauty", SETTINGS) is None


def test_a_share_lies_between_nothing_and_all(tmp_path):
    for seed, skill in ((1, 0.3), (2, 0.99)):
        write_run(tmp_path / str(seed), seed=seed, skill=skill)
    both = configured(tmp_path)[0][0]
    found = estimate(both, "test/accuracy", SETTINGS)
    assert (found.low, found.high) == (0, 1) and 0.5 < found.value < 0.8
    assert estimate(both, "val/nll", SETTINGS).high > 1


def test_intervals_are_of_the_confidence_asked_for(tmp_path):
    one = configured(write_run(tmp_path / "run"))[0][0]
    n, hits = len(one.first.test.target), int((one.first.test.target == one.first.test.prediction).sum())
    for metric in ("test/accuracy", "test/macro_f1", "test/few_recall"):
        usual, narrow = (estimate(one, metric, Evaluation(confidence=c)) for c in (0.95, 0.5))
        assert usual.low < narrow.low < narrow.value < narrow.high < usual.high
    found = estimate(one, "test/accuracy", Evaluation(confidence=0.5))
    interval = stats.binomtest(hits, n).proportion_ci(0.5, method="wilson")
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
