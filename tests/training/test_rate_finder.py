import numpy as np
import pytest

from birdclf.errors import UserError
from birdclf.training.callbacks.rate_finder import smoothed, suggestion

RATES = np.geomspace(1e-7, 10, 100)


def test_the_steepest_fall_before_the_lowest_loss():
    losses = 2 - 1 / (1 + (1e-3 / RATES) ** 2) + np.maximum(0, RATES - 0.1)
    assert suggestion(RATES, losses) == pytest.approx(1e-3, rel=0.2)


def test_a_fall_after_a_rise_does_not_count():
    losses = np.where(RATES < 1e-4, 1.0, 5.0)
    losses[50:] = 2.0
    losses[20:30] -= np.linspace(0, 0.5, 10)
    assert RATES[19] <= suggestion(RATES, losses) <= RATES[30]


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 1.1, 1.2], [1.0, 1.0]])
def test_a_loss_that_never_falls_is_refused(losses):
    with pytest.raises(UserError, match="no rate"):
        suggestion(RATES[: len(losses)], np.array(losses))


def test_smoothing_keeps_a_constant_and_weighs_the_first_values_alike():
    assert smoothed(np.full(20, 3.0)) == pytest.approx(np.full(20, 3.0))
    assert smoothed(np.array([1.0, 2.0]))[1] == pytest.approx((0.9 * 1 + 2) / 1.9)
