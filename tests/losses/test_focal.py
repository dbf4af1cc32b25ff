import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from birdclf.errors import UserError
from birdclf.losses.cross_entropy import CrossEntropy
from birdclf.losses.focal import FocalLoss

COUNTS = torch.tensor([1216, 300, 40, 12, 2])
CLASSES = len(COUNTS)


def batch(seed: int = 0, n: int = 16, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, CLASSES, generator=generator)
    return logits, torch.randint(0, CLASSES, (n,), generator=generator)


def test_by_hand():
    # p = 3/4 and 1/4 for the true classes: (1/4)^2 log(4/3) and (3/4)^2 log 4
    logits = torch.tensor([[0.75, 0.25], [0.75, 0.25]]).log()
    expected = (0.0625 * math.log(4 / 3) + 0.5625 * math.log(4)) / 2
    assert float(FocalLoss(torch.tensor([1, 1]))(logits, torch.tensor([0, 1]))) == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_the_formula_in_value_and_gradient(gamma):
    logits, target = batch()
    z = logits.double().requires_grad_()
    p = torch.softmax(z, dim=1)[torch.arange(len(target)), target]
    theirs = ((1 - p) ** gamma * -p.log()).mean()
    expected = torch.autograd.grad(theirs, z)[0]
    ours = FocalLoss(COUNTS, gamma=gamma)(z, target)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, z)[0], expected, rtol=1e-5, atol=1e-9)


@given(st.integers(0, 10**6))
def test_gamma_0_equals_cross_entropy(seed):
    logits, target = batch(seed)
    z = logits.clone().requires_grad_()
    focal, plain = FocalLoss(COUNTS, gamma=0.0)(z, target), CrossEntropy(COUNTS)(z, target)
    torch.testing.assert_close(focal, plain)
    torch.testing.assert_close(focal, functional.cross_entropy(logits, target))
    torch.testing.assert_close(torch.autograd.grad(focal, z)[0], torch.autograd.grad(plain, z)[0])


@given(st.integers(0, 10**6), st.floats(0, 5), st.floats(0, 5))
def test_more_focus_never_costs_more(seed, one, two):
    logits, target = batch(seed)
    low, high = sorted((one, two))
    losses = [float(FocalLoss(COUNTS, gamma=gamma)(logits, target)) for gamma in (low, high)]
    assert losses[0] >= losses[1] * (1 - 1e-5) >= 0


def test_certainty_costs_nothing():
    logits = torch.full((3, CLASSES), -1e4)
    logits[:, 1] = 1e4
    assert float(FocalLoss(COUNTS)(logits, torch.ones(3, dtype=torch.long))) == 0


def test_nearly_certain_rows_keep_precision():
    """1 - p is taken as -expm1(log p): at p = 1 - 1e-6 float32's 1 - p would be off by 5 %."""
    z = torch.tensor([[math.log(1e6 - 1), 0.0]])
    exact = 1e-6**0.5 * -math.log1p(-1e-6)
    assert float(FocalLoss(torch.tensor([1, 1]), gamma=0.5)(z, torch.tensor([0]))) == pytest.approx(exact, rel=0.1)
    assert float(FocalLoss(torch.tensor([1, 1]), gamma=0.5)(z.double(), torch.tensor([0]))) == pytest.approx(exact)


def test_alpha_by_hand():
    logits, target = batch()
    plain = FocalLoss(COUNTS, alpha=None)
    assert plain.alpha.tolist() == [1.0] * CLASSES
    torch.testing.assert_close(FocalLoss(COUNTS, alpha=0.25)(logits, target), 0.25 * plain(logits, target))
    torch.testing.assert_close(FocalLoss(COUNTS, alpha=1)(logits, target), plain(logits, target))
    frequency = FocalLoss(torch.tensor([90, 10]), alpha="class_frequency").alpha
    torch.testing.assert_close(frequency, torch.tensor([5 / 9, 5.0]))  # 1 / n with mean 1 over 100 recordings


@given(st.integers(2, 100))
def test_counts_scaled_by_k_change_nothing(k):
    one, two = (FocalLoss(n, alpha="class_frequency").alpha for n in (COUNTS, k * COUNTS))
    torch.testing.assert_close(one, two)


def test_gamma_acts():
    logits, target = batch()
    losses = [float(FocalLoss(COUNTS, gamma=gamma)(logits, target)) for gamma in (0, 0.5, 1, 2, 3, 5)]
    assert all(one > 1.02 * two for one, two in zip(losses, losses[1:], strict=False))


@pytest.mark.parametrize("gamma", [-1, -1e-9, math.nan, math.inf])
def test_a_wrong_gamma_is_refused(gamma):
    with pytest.raises(UserError, match=r"loss\.gamma is .*0 or more"):
        FocalLoss(COUNTS, gamma=gamma)


@pytest.mark.parametrize("alpha", [0, -0.25, math.nan, math.inf, "balanced", ""])
def test_a_wrong_alpha_is_refused(alpha):
    with pytest.raises(UserError, match=r"loss\.alpha is .*class_frequency"):
        FocalLoss(COUNTS, alpha=alpha)
