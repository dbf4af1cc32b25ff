import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.errors import UserError
from birdclf.posthoc.base import GRID, Adjustment, LogitAdjustment, Unadjusted

COUNTS = [90, 9, 1]


def accuracy(target: np.ndarray):
    return lambda logits: float((logits.argmax(axis=1) == target).mean())


def test_by_hand():
    # pi = 3/4, 1/4: minus log pi adds log(4/3) and log 4, twice with tau 2
    logits = np.zeros((1, 2), dtype=np.float32)
    for tau in (1.0, 2.0):
        adjusted = LogitAdjustment(tau).fit(logits, [30, 10], accuracy(np.array([0]))).apply(logits)
        np.testing.assert_allclose(adjusted, [[tau * np.log(4 / 3), tau * np.log(4)]], rtol=1e-6)
        assert adjusted.dtype == np.float32


@given(st.integers(0, 1000))
def test_of_probabilities_it_takes_the_prior_out(seed):
    """With tau 1 the posterior under a prior becomes that under equal classes (Menon et al., 2021, section 4.1)."""
    rng = np.random.default_rng(seed)
    likelihood, prior = rng.dirichlet(np.ones(3), size=5), rng.dirichlet(np.ones(3))
    logits = np.log(likelihood * prior)
    adjusted = Adjustment(1.0, tuple(prior)).apply(logits)
    np.testing.assert_allclose(np.exp(adjusted) / np.exp(adjusted).sum(1, keepdims=True), likelihood, rtol=1e-3)


def test_tau_0_or_a_uniform_prior_changes_no_decision():
    logits = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    score = accuracy(np.zeros(50, dtype=int))
    same = LogitAdjustment(0.0).fit(logits, COUNTS, score).apply(logits)
    np.testing.assert_array_equal(same, logits)
    uniform = LogitAdjustment(2.0).fit(logits, [7, 7, 7], score).apply(logits)
    np.testing.assert_array_equal(uniform.argmax(axis=1), logits.argmax(axis=1))
    assert Unadjusted().fit(logits, COUNTS, score) is None


@given(st.integers(2, 100))
def test_counts_scaled_by_k_change_nothing(k):
    logits, score = np.zeros((1, 3)), accuracy(np.array([2]))
    one, two = (LogitAdjustment(1.0).fit(logits, [f * n for n in COUNTS], score) for f in (1, k))
    np.testing.assert_allclose(one.prior, two.prior)


def test_a_class_without_a_train_recording_stays_finite():
    logits = np.zeros((1, 3), dtype=np.float32)
    adjustment = LogitAdjustment(1.0).fit(logits, [9, 0, 1], accuracy(np.array([2])))
    assert np.isfinite(adjustment.apply(logits)).all() and adjustment.prior[1] == adjustment.prior[2]


def test_tau_is_the_smallest_of_the_best():
    # class 1 is ahead of class 0 once tau log 9 > 2.2, from tau 1.05 on
    logits = np.array([[2.2, 0.0]])
    found = LogitAdjustment().fit(logits, [9, 1], accuracy(np.array([1])))
    assert found.tau == 1.05 and found.prior == (0.9, 0.1)
    assert LogitAdjustment().fit(logits, [9, 1], accuracy(np.array([0]))).tau == 0
    assert GRID[0] == 0 and GRID[-1] == 3 and np.allclose(np.diff(GRID), 0.05)


@given(st.integers(0, 1000))
def test_tuned_it_is_never_worse_on_validation(seed):
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    score = accuracy(target)
    assert score(LogitAdjustment().fit(logits, COUNTS, score).apply(logits)) >= score(logits)


def test_they_say_what_they_do_about_the_prior():
    assert LogitAdjustment().corrects_prior and LogitAdjustment(1.0).corrects_prior
    assert not LogitAdjustment(0.0).corrects_prior and not Unadjusted().corrects_prior


@pytest.mark.parametrize("tau", [-0.5, float("nan"), float("inf"), "much", True])
def test_a_wrong_tau_is_refused(tau):
    with pytest.raises(UserError, match=r"posthoc\.tau is .* null .* 0 or more"):
        LogitAdjustment(tau)
