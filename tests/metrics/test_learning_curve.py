import numpy as np
import pytest

from birdclf.metrics.intervals import standard_error
from birdclf.metrics.learning_curve import fit_power_law, gain_of_doubling

N = np.array([100.0, 200.0, 400.0, 800.0])


def test_a_power_law_is_recovered_and_its_gain_is_its_own():
    score = 1 - 3 * N**-0.25
    law = fit_power_law(N, score, clips=500)
    assert law.slope == pytest.approx(-0.25) and law.level == pytest.approx(np.log(3))
    assert law.score(N) == pytest.approx(score)
    gain, _ = gain_of_doubling(N, score, clips=500)
    assert gain == pytest.approx(3 * 800**-0.25 - 3 * 1600**-0.25)


def test_a_curve_that_falls_has_a_negative_gain_and_a_perfect_one_is_finite():
    assert gain_of_doubling(N, np.array([0.8, 0.7, 0.6, 0.5]), clips=100)[0] < 0
    gain, gradient = gain_of_doubling(N, np.array([0.9, 0.99, 1.0, 1.0]), clips=100)
    assert 0 < gain < 0.01 and np.isfinite(gradient).all()


def test_the_error_is_that_of_many_test_sets():
    """By simulation: runs of four fractions are judged on one test set, drawn again and again."""
    rng, clips = np.random.default_rng(3), 400
    right = np.array([0.5, 0.58, 0.66, 0.72])
    gains, errors = [], []
    for _ in range(200):
        hard = rng.random(clips)  # a clip is as hard for each of the runs
        hits = (hard[:, None] < right).astype(float)
        score = hits.mean(axis=0)
        gain, gradient = gain_of_doubling(N, score, clips)
        error = standard_error((hits - score) / clips @ gradient[:, None])[0]
        gains.append(gain)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.15)
