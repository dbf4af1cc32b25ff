import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from birdclf.metrics.calibration import fit_temperature, reliability
from birdclf.metrics.figures import expected_calibration_error, log_softmax, negative_log_likelihood


def sample(seed: int, temperature: float, n: int = 3_000) -> tuple[np.ndarray, np.ndarray]:
    """Return logits that are too large by ``temperature``, and targets from the true probabilities."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((n, 5))
    drawn = z + rng.gumbel(size=z.shape)
    return z * temperature, drawn.argmax(axis=1)


@given(st.integers(0, 10**6), st.sampled_from([0.2, 0.7, 1.0, 3.0, 20.0]))
def test_the_temperature_is_found(seed, temperature):
    assert fit_temperature(*sample(seed, temperature)) == pytest.approx(temperature, rel=0.15)


def test_the_temperature_is_the_slope_of_a_logistic_regression():
    """For two classes 1 / T is the coefficient of the logit in a regression without intercept."""
    z, target = sample(0, 2.0)
    z, target = z[target < 2, :2], target[target < 2]
    slope = LogisticRegression(C=1e12, fit_intercept=False).fit(z[:, 1:] - z[:, :1], target).coef_[0, 0]
    assert fit_temperature(z, target) == pytest.approx(1 / slope, rel=1e-3)


def test_the_temperature_lowers_likelihood_and_calibration_error():
    z, target = sample(1, 3.0)
    cooled = z / fit_temperature(z, target)
    assert negative_log_likelihood(log_softmax(cooled), target) < negative_log_likelihood(log_softmax(z), target)
    before, after = (expected_calibration_error(np.exp(log_softmax(x)), target) for x in (z, cooled))
    assert after < 0.03 < before


@pytest.mark.parametrize(
    ("logits", "target", "expected"),
    [
        (np.zeros((4, 3)), [0, 1, 2, 0], 1),  # the same for every T
        (np.empty((0, 3)), [], 1),
        (np.full((2, 3), np.nan), [0, 1], 1),
        (np.eye(3), [1, 2, 0], 100),  # all wrong: the hotter the better
        (1e4 * np.eye(3), [1, 2, 0], 100),
    ],
)
def test_degenerate_input_has_a_bounded_temperature(logits, target, expected):
    assert fit_temperature(logits, np.array(target, dtype=int)) == pytest.approx(expected, rel=0.01)


def test_logits_that_are_always_right_have_a_low_and_bounded_temperature():
    """Below 0.05 or so the likelihood is 1 in float64, whatever the temperature."""
    assert 0.01 <= fit_temperature(np.eye(3), np.array([0, 1, 2])) < 0.05


@given(st.integers(0, 10**6), st.integers(1, 20))
def test_reliability_is_sklearns_curve(seed, bins):
    z, target = sample(seed, 1.0, n=200)
    p = np.exp(log_softmax(z))
    ours = reliability(p, target, bins)
    accuracy, confidence = calibration_curve(p.argmax(axis=1) == target, p.max(axis=1), n_bins=bins)
    seen = ours.count > 0
    np.testing.assert_allclose(ours.accuracy[seen], accuracy)
    np.testing.assert_allclose(ours.confidence[seen], confidence)
    assert ours.count.sum() == 200 and len(ours.count) == bins
    gap = (ours.count * np.abs(ours.confidence - ours.accuracy)).sum() / 200
    assert expected_calibration_error(p, target, bins) == pytest.approx(gap)
