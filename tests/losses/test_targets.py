import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from birdclf.errors import UserError
from birdclf.losses.base import as_distribution, in_range, inverse_power, log_probabilities

COUNTS = st.lists(st.integers(1, 5000), min_size=2, max_size=30)
POWERS = st.floats(0, 2)


def weights(counts: list[int], power: float, ratio: float | None = None) -> torch.Tensor:
    return inverse_power(torch.tensor(counts), power, ratio)


def test_weights_by_hand():
    # n = 90, 10: n^-1 = 1/90, 1/10; the mean over 100 recordings is (1 + 1) / 100, so w = 50/90, 50/10
    torch.testing.assert_close(weights([90, 10], 1.0), torch.tensor([50 / 90, 5.0]))
    # n = 64, 16, 4: n^-0.5 = 1/8, 1/4, 1/2; sum n w = 8 + 4 + 2 = 14 of 84, so w is 6 times that
    torch.testing.assert_close(weights([64, 16, 4], 0.5), torch.tensor([0.75, 1.5, 3.0]))
    assert weights([64, 16, 4], 0.0).tolist() == [1, 1, 1]


def test_the_ratio_is_limited_by_hand():
    # 1/100, 1/10, 1 capped at 20 times the least: 0.01, 0.1, 0.2; sum n w = 1 + 1 + 0.2 = 2.2 of 111
    expected = torch.tensor([0.01, 0.1, 0.2]) * 111 / 2.2
    torch.testing.assert_close(weights([100, 10, 1], 1.0, 20.0), expected)
    assert weights([100, 10, 1], 1.0, 1.0).tolist() == pytest.approx([1, 1, 1])


def test_a_class_without_recordings_counts_as_one():
    torch.testing.assert_close(weights([50, 0], 1.0), weights([50, 1], 1.0))
    assert weights([0, 0], 1.0).tolist() == [1, 1]


@given(COUNTS, POWERS, st.integers(2, 100))
def test_counts_scaled_by_k_change_nothing(counts, power, k):
    torch.testing.assert_close(weights([k * n for n in counts], power), weights(counts, power))


@given(COUNTS, POWERS)
def test_the_mean_over_recordings_is_1_and_rarer_weighs_more(counts, power):
    weight, n = weights(counts, power).double(), torch.tensor(counts).double()
    assert float((weight * n).sum() / n.sum()) == pytest.approx(1, rel=1e-5)
    assert (weight > 0).all()
    assert (weight[torch.argsort(n)].diff() <= 1e-5 * weight.max()).all()


@given(COUNTS, POWERS, st.floats(1, 1000))
def test_the_ratio_holds(counts, power, ratio):
    weight = weights(counts, power, ratio)
    assert float(weight.max() / weight.min()) <= ratio * (1 + 1e-5)


def test_integer_targets_become_one_hot():
    target = as_distribution(torch.tensor([2, 0]), torch.zeros(2, 3))
    assert target.tolist() == [[0, 0, 1], [1, 0, 0]] and target.dtype == torch.float32


def test_soft_targets_keep_their_values_in_the_logits_type():
    soft = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    out = as_distribution(soft, torch.zeros(1, 2))
    assert out.tolist() == [[0.25, 0.75]] and out.dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (2, 3, 1), ()])
def test_other_shapes_are_an_error(shape):
    with pytest.raises(ValueError, match="classes or"):
        as_distribution(torch.zeros(shape), torch.zeros(2, 3))


def test_in_range():
    assert in_range("gamma", 2.0, 0) == 2.0
    assert in_range("label_smoothing", 1.0, 0, 1) == 1.0
    for value in (-0.1, 1.1, math.nan, math.inf):
        with pytest.raises(UserError, match=r"loss\.label_smoothing is .*between 0 and 1"):
            in_range("label_smoothing", value, 0, 1)
    with pytest.raises(UserError, match=r"loss\.gamma is inf; .* 0 or more"):
        in_range("gamma", math.inf, 0)


def test_log_probabilities_are_float32_at_least():
    z = torch.tensor([[0.0, 1.0, 2.0]])
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        out = log_probabilities(z.to(dtype))
        assert out.dtype == torch.float32
        torch.testing.assert_close(out, torch.log_softmax(z, dim=1))
    assert log_probabilities(z.double()).dtype == torch.float64
