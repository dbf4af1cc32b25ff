import numpy as np
import pytest

from birdclf.metrics.figures import Evaluation
from birdclf.metrics.intervals import ClusterCounts
from birdclf.metrics.learning_curve import figure_of, fit_power_law, gain_of_doubling
from birdclf.metrics.predictions import Predictions

N = np.array([100.0, 200.0, 400.0, 800.0])


def test_a_power_law_is_recovered_and_its_gain_is_its_own():
    score = 1 - 3 * N**-0.25
    law = fit_power_law(N, score, clips=500)
    assert law.slope == pytest.approx(-0.25) and law.level == pytest.approx(np.log(3))
    assert law.score(N) == pytest.approx(score)
    gain, error = gain_of_doubling(N, score, np.zeros((40, 4)), clips=500)
    assert gain == pytest.approx(3 * 800**-0.25 - 3 * 1600**-0.25) and error == 0


def test_a_curve_that_falls_has_a_negative_gain_and_a_perfect_one_is_finite():
    assert gain_of_doubling(N, np.array([0.8, 0.7, 0.6, 0.5]), np.zeros((9, 4)), clips=100)[0] < 0
    gain, error = gain_of_doubling(N, np.array([0.9, 0.99, 1.0, 1.0]), np.zeros((9, 4)), clips=100)
    assert 0 < gain < 0.01 and error == 0


def test_the_error_is_that_of_many_test_sets():
    """By simulation: runs of four fractions are judged on one test set, drawn again and again."""
    rng, clips = np.random.default_rng(3), 400
    right = np.array([0.5, 0.58, 0.66, 0.72])
    gains, errors = [], []
    for _ in range(200):
        hard = rng.random(clips)  # a clip is as hard for each of the runs
        hits = (hard[:, None] < right).astype(float)
        score = hits.mean(axis=0)
        gain, error = gain_of_doubling(N, score, (hits - score) / clips, clips)
        gains.append(gain)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.15)


def test_figures_are_those_of_the_metrics():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 6, 200)
    logits = rng.normal(size=(200, 6)).astype(np.float32)
    logits[np.arange(200), target] += 1
    names = np.array([f"r{i}" for i in range(200)], dtype=object)
    predictions = Predictions(names, target, logits, names)
    train = np.array([500, 150, 80, 40, 10, 2])
    known, buckets = predictions.figures(train, Evaluation(draws=100)), Evaluation().buckets(train)
    counts = ClusterCounts.of(target, predictions.prediction, names, 6)
    for metric in ("accuracy", "macro_f1"):
        assert figure_of(counts, metric, buckets)[0] == pytest.approx(known[metric]["value"])
    for bucket in ("many", "medium", "few"):
        value, influence = figure_of(counts, f"{bucket}_recall", buckets)
        assert value == pytest.approx(known["buckets"][bucket]["recall"]) and influence.shape == (200,)
    empty = {"few": np.zeros(6, dtype=bool)}
    assert np.isnan(figure_of(counts, "few_recall", empty)[0])
