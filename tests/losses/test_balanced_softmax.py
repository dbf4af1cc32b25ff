import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from birdclf.errors import UserError
from birdclf.losses.balanced_softmax import BalancedSoftmax

COUNTS = torch.tensor([1216, 300, 40, 12, 2])


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(16, 5, generator=generator), torch.randint(0, 5, (16,), generator=generator)


def test_by_hand():
    # exp z = 1, 3 and pi = 3/4, 1/4: n exp z = 3/4, 3/4, so both classes cost log 2
    logits, loss = torch.tensor([[1.0, 3.0]]).log(), BalancedSoftmax(torch.tensor([30, 10]))
    for target in (0, 1):
        assert float(loss(logits, torch.tensor([target]))) == pytest.approx(math.log(2))


def test_tau_by_hand():
    # pi^2 = 9/16, 1/16; exp z = 1, 1: 9/10 and 1/10
    loss = BalancedSoftmax(torch.tensor([30, 10]), tau=2.0)
    assert float(loss(torch.zeros(1, 2), torch.tensor([1]))) == pytest.approx(math.log(10))


def test_logits_that_know_nothing_but_the_prior_have_no_gradient():
    """The expected gradient at equal logits is 0 where labels come as often as the prior says."""
    z = torch.zeros(1570, 5).requires_grad_()
    target = torch.repeat_interleave(torch.arange(5), COUNTS)
    BalancedSoftmax(COUNTS)(z, target).backward()
    torch.testing.assert_close(z.grad.sum(dim=0), torch.zeros(5), rtol=0, atol=1e-6)


@given(st.integers(0, 10**6))
def test_tau_0_or_a_uniform_prior_is_cross_entropy(seed):
    logits, target = batch(seed)
    expected = functional.cross_entropy(logits, target)
    for loss in (BalancedSoftmax(COUNTS, tau=0.0), BalancedSoftmax(torch.full((5,), 7), tau=1.5)):
        torch.testing.assert_close(loss(logits, target), expected)
    assert not BalancedSoftmax(COUNTS, tau=0.0).corrects_prior and BalancedSoftmax(COUNTS).corrects_prior


@given(st.integers(0, 10**6), st.integers(2, 100), st.floats(0, 3))
def test_counts_scaled_by_k_change_nothing(seed, k, tau):
    logits, target = batch(seed)
    one, two = BalancedSoftmax(COUNTS, tau), BalancedSoftmax(k * COUNTS, tau)
    torch.testing.assert_close(one(logits, target), two(logits, target))


def test_tau_acts():
    logits, target = batch()
    assert len({round(float(BalancedSoftmax(COUNTS, tau)(logits, target)), 4) for tau in (0, 0.5, 1, 1.5)}) == 4


@pytest.mark.parametrize("tau", [-0.5, math.nan, math.inf, "much", True])
def test_a_wrong_tau_is_refused(tau):
    with pytest.raises(UserError, match=r"loss\.tau is .*0 or more"):
        BalancedSoftmax(COUNTS, tau=tau)
