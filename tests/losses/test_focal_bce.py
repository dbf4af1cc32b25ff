import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from birdclf.errors import UserError
from birdclf.losses.bce import BCE
from birdclf.losses.focal_bce import FocalBCE

COUNTS, EXAMPLES = torch.tensor([1216, 300, 40, 12, 2]), 2000


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits ``(16, 5)`` and sets with masked classes."""
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(16, 5, generator=generator), torch.randint(-1, 2, (16, 5), generator=generator).float()


def focal(**settings: float) -> FocalBCE:
    return FocalBCE(COUNTS, EXAMPLES, **settings)


def test_by_hand():
    # p = 3/4 heard: (1/4)^2 log(4/3); p = 3/4 not heard: (3/4)^2 log 4; the third is masked
    logits = torch.full((1, 3), math.log(3))
    target = torch.tensor([[1.0, 0.0, -1.0]])
    heard, absent = 0.0625 * math.log(4 / 3), 0.5625 * math.log(4)
    assert float(FocalBCE(torch.ones(3), 2)(logits, target)) == pytest.approx((heard + absent) / 2)
    weighted = FocalBCE(torch.ones(3), 2, alpha=0.25)
    assert float(weighted(logits, target)) == pytest.approx((0.25 * heard + 0.75 * absent) / 2)
    weak = FocalBCE(torch.ones(3), 2, alpha=0.25, negative_weight=0.1)
    assert float(weak(logits, target)) == pytest.approx((0.25 * heard + 0.075 * absent) / 2)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_the_formula_in_value_and_gradient(gamma):
    logits, target = batch()
    z = logits.double().requires_grad_()
    p = torch.sigmoid(z)
    terms = torch.where(target == 1, -0.3 * (1 - p) ** gamma * p.log(), -0.7 * p**gamma * (1 - p).log())
    theirs = terms[target != -1].mean()
    ours = focal(gamma=gamma, alpha=0.3)(z, target)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(value, z)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)


@given(st.integers(0, 10**6), st.floats(0.01, 1))
def test_gamma_0_is_binary_cross_entropy(seed, weight):
    logits, target = batch(seed)
    z = logits.requires_grad_()
    values = [
        loss(z, target) for loss in (focal(gamma=0, negative_weight=weight), BCE(COUNTS, 1, negative_weight=weight))
    ]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, z)[0] for value in values))


@given(st.integers(0, 10**6))
def test_alpha_one_half_is_half(seed):
    logits, target = batch(seed)
    torch.testing.assert_close(2 * focal(alpha=0.5)(logits, target), focal()(logits, target))


@given(st.integers(0, 10**6), st.floats(0, 5), st.floats(0, 5))
def test_more_focus_never_costs_more(seed, one, two):
    logits, target = batch(seed)
    losses = [float(focal(gamma=gamma)(logits, target)) for gamma in sorted((one, two))]
    assert losses[0] >= losses[1] * (1 - 1e-5) >= 0


@given(st.integers(0, 10**6), st.floats(0, 4))
def test_heard_and_not_heard_are_mirrored(seed, gamma):
    logits, target = batch(seed)
    mirrored = torch.where(target == -1, target, 1 - target)
    torch.testing.assert_close(focal(gamma=gamma)(-logits, mirrored), focal(gamma=gamma)(logits, target))


def test_certainty_costs_nothing():
    target = torch.eye(5)
    assert float(focal()(1e4 * (2 * target - 1), target)) == 0


@pytest.mark.parametrize("gamma", [-1, -1e-9, math.nan, math.inf])
def test_a_wrong_gamma_is_refused(gamma):
    with pytest.raises(UserError, match=r"loss\.gamma is .*0 or more"):
        focal(gamma=gamma)


@pytest.mark.parametrize("alpha", [0, 1, -0.25, 1.5, math.nan, True])
def test_a_wrong_alpha_is_refused(alpha):
    with pytest.raises(UserError, match=r"loss\.alpha is .*null, or a number above 0 and below 1"):
        focal(alpha=alpha)
