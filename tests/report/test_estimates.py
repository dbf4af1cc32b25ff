import numpy as np
import pytest
from made_up_runs import configured, write_run
from scipy import stats

from birdclf.metrics.figures import Evaluation
from birdclf.metrics.over_seeds import OverSeeds
from birdclf.report.estimates import estimate, measured, spread

SETTINGS = Evaluation(draws=200)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    for seed in (1, 2, 3, 4):
        write_run(folder / f"{seed}_run", seed=seed)
    return configured(folder)[0][0]


def test_several_seeds_have_the_interval_of_their_mean(seeds):
    values = list(seeds.values("test/accuracy").values())
    over = OverSeeds.of(values, [measured(run, "test/accuracy", SETTINGS)[1] for run in seeds.runs.values()])
    found = estimate(seeds, "test/accuracy", SETTINGS)
    assert found.value == pytest.approx(np.mean(values)) == over.value
    assert (found.low, found.high) == pytest.approx(over.interval(), abs=0.01) and found.low < found.value < found.high
    assert "±" in found.cell().text and found.basis == "of the mean over 4 seeds"


def test_what_is_measured_is_what_the_run_says(seeds):
    for metric in ("test/accuracy", "val/macro_f1", "test/balanced_accuracy", "test/few_recall", "test/many_f1"):
        value, influence = measured(seeds.first, metric, SETTINGS)
        assert value == pytest.approx(seeds.first.figure(metric)) and len(influence.loss) == 160
    assert measured(seeds.first, "test/ece", SETTINGS) is None


def test_a_figure_that_is_no_mean_has_students_interval(seeds):
    values = list(seeds.values("test/ece").values())
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    found = estimate(seeds, "test/ece", SETTINGS)
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), max(low, 0), high))


def test_seeds_that_agree_exactly_are_no_certainty(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / str(seed), seed=seed, data_seed=1, skill=1.0)
        for name in ("predictions.parquet", "metrics.json"):
            (tmp_path / str(seed) / name).write_bytes((tmp_path / "1" / name).read_bytes())
    both = configured(tmp_path)[0][0]
    accuracy = estimate(both, "test/accuracy", SETTINGS)
    assert accuracy.sd == 0 and accuracy.high - accuracy.low > 0.02
    assert np.isnan(estimate(both, "test/ece", SETTINGS).low)


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
    assert 0 <= found.low < 0.4 < 0.8 < found.high <= 1 and 0.5 < found.value < 0.8
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
