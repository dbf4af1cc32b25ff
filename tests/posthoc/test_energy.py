import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.errors import UserError
from birdclf.posthoc.base import LogitAdjustment, PostHoc, Unadjusted
from birdclf.posthoc.energy import MARGIN, Energy, Rejection
from birdclf.posthoc.tau_norm import TauNorm


def fitted(logits: np.ndarray, accept: float = 0.95) -> Rejection:
    return Energy(accept).fit(logits, [1] * logits.shape[1], lambda logits: 0.0)


def test_by_hand():
    # log(e^0 + e^0) = log 2; log(e^log 3 + e^0) = log 4; log(e^log 7 + e^0) = log 8
    logits = np.log([[1.0, 1.0], [7.0, 1.0], [3.0, 1.0]])
    found = fitted(logits, accept=0.6)  # at least two of three
    margin = MARGIN * np.log([2, 8, 4]).std()
    assert found.threshold == pytest.approx(np.log(4) - margin) and found.accept == 0.6
    assert found.rejects(logits).tolist() == [True, False, False]
    assert fitted(logits, 0.3).rejects(logits).tolist() == [True, False, True]
    assert fitted(logits, 0.9).rejects(logits).tolist() == [False, False, False]


@given(st.integers(0, 1000), st.integers(1, 200), st.floats(0.01, 0.99))
def test_as_few_recordings_as_are_asked_for_are_accepted(seed, n, accept):
    logits = np.random.default_rng(seed).normal(0, 20, (n, 4))
    kept = int((~fitted(logits, accept).rejects(logits)).sum())
    assert accept * n <= kept + 1e-6 and kept < accept * n + 1 + n * 0.02  # some lie within the margin


def test_a_share_that_binary_fractions_miss_is_exact():
    logits = np.arange(20.0)[:, None] * np.ones((1, 3))
    for accepted in range(1, 20):
        assert (~fitted(logits, accepted / 20).rejects(logits)).sum() == accepted


def test_rounding_does_not_decide_on_a_recording():
    logits = np.random.default_rng(0).normal(0, 30, (101, 90))
    found = fitted(logits)
    for nudge in (-1e-4, 1e-4):
        np.testing.assert_array_equal(found.rejects(logits + nudge), found.rejects(logits))


def test_no_decision_changes():
    logits = np.random.default_rng(0).normal(0, 5, (50, 3)).astype(np.float32)
    out = fitted(logits).apply(logits)
    np.testing.assert_array_equal(out, logits)
    assert out.dtype == np.float32


def test_extreme_logits_have_an_energy():
    found = fitted(np.array([[1e4, -1e4], [5.0, 5.0]]), 0.5)
    assert found.rejects(np.array([[-1e4, -1e4], [1e4, 1e4]])).tolist() == [True, False]


@pytest.mark.parametrize("accept", [0, 1, -0.5, 1.5, float("nan"), "most", True])
def test_a_wrong_share_is_refused(accept):
    with pytest.raises(UserError, match=r"posthoc\.accept is .* above 0 and below 1"):
        Energy(accept)


def test_methods_of_one_class_a_recording_say_so():
    assert {method.task for method in (PostHoc, Energy, LogitAdjustment, TauNorm)} == {"single_label"}
    assert Unadjusted.task is None and not Energy().corrects_prior
