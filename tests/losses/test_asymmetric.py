import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from birdclf.errors import UserError
from birdclf.losses.asymmetric import Asymmetric
from birdclf.losses.bce import BCE
from birdclf.losses.focal_bce import FocalBCE

COUNTS, EXAMPLES = torch.tensor([1216, 300, 40, 12, 2]), 2000


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits ``(16, 5)`` and sets with masked classes."""
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(16, 5, generator=generator), torch.randint(-1, 2, (16, 5), generator=generator).float()


def asymmetric(**settings: float) -> Asymmetric:
    return Asymmetric(COUNTS, EXAMPLES, **settings)


def test_by_hand():
    # p = 3/4 heard: -(1/4)^1 log(3/4); p = 3/4 not heard, margin 1/4: -(1/2)^2 log(1/2); the third is masked
    logits, target = torch.full((1, 3), math.log(3)), torch.tensor([[1.0, 0.0, -1.0]])
    heard, absent = 0.25 * math.log(4 / 3), 0.25 * math.log(2)
    settings = {"gamma_pos": 1.0, "gamma_neg": 2.0, "margin": 0.25}
    assert float(asymmetric(**settings)(logits, target)) == pytest.approx((heard + absent) / 2)
    assert float(asymmetric(**settings, negative_weight=0.5)(logits, target)) == pytest.approx((heard + absent / 2) / 2)


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.5])
@pytest.mark.parametrize(("gamma_pos", "gamma_neg"), [(0.0, 4.0), (1.0, 4.0), (0.5, 1.0)])
def test_the_formula_in_value_and_gradient(gamma_pos, gamma_neg, margin):
    logits, target = batch()
    z = logits.double().requires_grad_()
    p = torch.sigmoid(z)
    shifted = (p - margin).clamp_min(0)
    of_negatives = torch.where(shifted > 0, -(shifted**gamma_neg) * (1 - shifted).log(), 0.0)
    theirs = torch.where(target == 1, -((1 - p) ** gamma_pos) * p.log(), of_negatives)[target != -1].mean()
    ours = asymmetric(gamma_pos=gamma_pos, gamma_neg=gamma_neg, margin=margin)(z, target)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(value, z)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)


@given(st.integers(0, 10**6), st.floats(0, 5), st.floats(0.01, 1))
def test_equal_gammas_and_no_margin_are_the_focal_loss(seed, gamma, weight):
    logits, target = batch(seed)
    z = logits.requires_grad_()
    ours = asymmetric(gamma_pos=gamma, gamma_neg=gamma, margin=0.0, negative_weight=weight)(z, target)
    focal = FocalBCE(COUNTS, EXAMPLES, gamma, negative_weight=weight)(z, target)
    torch.testing.assert_close(ours, focal)
    torch.testing.assert_close(*(torch.autograd.grad(value, z)[0] for value in (ours, focal)))


@given(st.integers(0, 10**6))
def test_no_gammas_and_no_margin_are_binary_cross_entropy(seed):
    logits, target = batch(seed)
    ours = asymmetric(gamma_pos=0.0, gamma_neg=0.0, margin=0.0)(logits, target)
    torch.testing.assert_close(ours, BCE(COUNTS, EXAMPLES)(logits, target))


@given(st.floats(0.01, 0.9), st.sampled_from([0.0, 0.5, 4.0]), st.floats(-30, 30))
def test_absences_below_the_margin_cost_nothing(margin, gamma_neg, z):
    logits = torch.tensor([[z, 0.0]], dtype=torch.float64, requires_grad=True)
    value = asymmetric(gamma_neg=gamma_neg, margin=margin)(logits, torch.tensor([[0.0, -1.0]]))
    value.backward()
    p = 1 / (1 + math.exp(-z))
    if p < margin - 1e-6:
        assert value == 0 and (logits.grad == 0).all()
    elif p > margin + 1e-3:
        assert value > 0 and logits.grad[0, 0] > 0


@given(st.integers(0, 10**6), st.floats(0, 0.9), st.floats(0, 0.9))
def test_a_larger_margin_never_costs_more(seed, one, two):
    logits, target = batch(seed)
    losses = [float(asymmetric(margin=margin)(logits, target)) for margin in sorted((one, two))]
    assert losses[0] >= losses[1] - 1e-6 and losses[1] >= 0


@pytest.mark.parametrize("knob", [{"gamma_pos": 1.0}, {"gamma_neg": 2.0}, {"margin": 0.2}], ids=lambda k: "-".join(k))
def test_every_setting_acts(knob):
    logits, target = batch()
    assert abs(float(asymmetric(**knob)(logits, target) - asymmetric()(logits, target))) > 1e-3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gamma_pos": -1}, r"loss\.gamma_pos is -1; .*0 or more"),
        ({"gamma_neg": math.nan}, r"loss\.gamma_neg is nan"),
        ({"margin": 1}, r"loss\.margin is 1; .*at least 0 and below 1"),
        ({"margin": -0.05}, r"loss\.margin is -0\.05"),
    ],
)
def test_bad_values_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        asymmetric(**settings)
