import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from birdclf.errors import UserError
from birdclf.losses.bce import BCE

COUNTS, EXAMPLES = torch.tensor([1216, 300, 40, 12, 2]), 2000


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits ``(16, 5)`` and sets without masked classes."""
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(16, 5, generator=generator), torch.randint(0, 2, (16, 5), generator=generator).float()


def test_by_hand():
    # p = 3/4 heard, 1/4 not heard, 3/4 not heard, and one masked: the mean of log(4/3), log(4/3), log 4
    logits = torch.tensor([[3.0, 1 / 3], [3.0, 3.0]]).log()
    target = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    loss = BCE(torch.tensor([1, 1]), 2)
    assert float(loss(logits, target)) == pytest.approx((2 * math.log(4 / 3) + math.log(4)) / 3)
    # Negatives at a quarter; the divisor stays 3.
    weak = BCE(torch.tensor([1, 1]), 2, negative_weight=0.25)
    assert float(weak(logits, target)) == pytest.approx((1.25 * math.log(4 / 3) + 0.25 * math.log(4)) / 3)


def test_weights_by_hand():
    # 10 of 100: 9 negatives a positive; 50 of 100: 1; 80 of 100: 1/4; none counts as one: 100 a positive
    counts = torch.tensor([10, 50, 80, 0])
    torch.testing.assert_close(BCE(counts, 100, weight_power=1).positive_weight, torch.tensor([9.0, 1.0, 0.25, 100.0]))
    torch.testing.assert_close(BCE(counts, 100, weight_power=0.5).positive_weight, torch.tensor([3.0, 1.0, 0.5, 10.0]))
    capped = BCE(counts, 100, weight_power=1, max_weight=4).positive_weight
    torch.testing.assert_close(capped, torch.tensor([4.0, 1.0, 0.25, 4.0]))
    assert float(BCE(torch.tensor([1]), 10**6, weight_power=1).positive_weight) == 100
    assert float(BCE(torch.tensor([7]), 7, weight_power=1).positive_weight) > 0, "a class of all examples is learnt too"
    logits, target = torch.zeros(2, 1), torch.tensor([[1.0], [0.0]])
    weighted = BCE(torch.tensor([10]), 100, weight_power=1)
    assert float(weighted(logits, target)) == pytest.approx((9 * math.log(2) + math.log(2)) / 2)


def test_the_prior_by_hand():
    # 10 of 100 and tau 1: p = sigmoid(z + log(1/9)); z = log 9 gives 1/2
    loss = BCE(torch.tensor([10]), 100, tau=1)
    torch.testing.assert_close(loss.offset, torch.tensor([-math.log(9)]))
    logits = torch.tensor([[math.log(9)]])
    assert float(loss(logits, torch.ones(1, 1))) == pytest.approx(math.log(2))
    torch.testing.assert_close(BCE(torch.tensor([10]), 100, tau=0.5).offset, torch.tensor([-math.log(3)]))
    # A class of half of the examples has no offset, and one of all or of none of them a finite one.
    assert BCE(torch.tensor([50]), 100, tau=1).offset.tolist() == [0]
    assert BCE(torch.tensor([0, 100]), 100, tau=1).offset.isfinite().all()


def test_the_network_that_knows_only_the_prior_gets_even_logits():
    """With tau 1 the best constant logits are 0: the offset says how frequent each class is."""
    counts = torch.tensor([10, 50, 80])
    target = (torch.arange(100)[:, None] < counts).float()
    z = torch.zeros(3, requires_grad=True)
    gradient = torch.autograd.grad(BCE(counts, 100, tau=1)(z.expand(100, 3), target), z)[0]
    torch.testing.assert_close(gradient, torch.zeros(3), atol=1e-6, rtol=0)


def test_balanced_weights_even_out_positives_and_negatives():
    """With weight_power 1 the best constant logits are 0 as well."""
    counts = torch.tensor([10, 50, 80])
    target = (torch.arange(100)[:, None] < counts).float()
    z = torch.zeros(3, requires_grad=True)
    gradient = torch.autograd.grad(BCE(counts, 100, weight_power=1)(z.expand(100, 3), target), z)[0]
    torch.testing.assert_close(gradient, torch.zeros(3), atol=1e-6, rtol=0)


def test_smoothing_by_hand():
    # e = 0.2: targets 0.9 and 0.1; p = 3/4
    logits, loss = torch.tensor([[math.log(3)]]), BCE(torch.tensor([1]), 2, label_smoothing=0.2)
    assert float(loss(logits, torch.ones(1, 1))) == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))
    assert float(loss(logits, torch.zeros(1, 1))) == pytest.approx(0.1 * math.log(4 / 3) + 0.9 * math.log(4))


@given(st.integers(0, 10**6))
def test_without_settings_it_is_binary_cross_entropy(seed):
    logits, target = batch(seed)
    plain = functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(BCE(COUNTS, EXAMPLES)(logits, target), plain)
    usual = BCE(COUNTS, EXAMPLES, weight_power=0, tau=0, label_smoothing=0, negative_weight=1)
    assert not usual.weighs_classes and not usual.corrects_prior
    torch.testing.assert_close(usual(logits, target), plain)


@given(st.integers(0, 10**6), st.floats(0.1, 2))
def test_the_formula_in_value_and_gradient(seed, power):
    logits, target = batch(seed)
    z = logits.double().requires_grad_()
    p = torch.sigmoid(z)
    w = ((EXAMPLES - COUNTS) / COUNTS).double() ** power
    theirs = -(w.clamp_max(100) * target * p.log() + (1 - target) * (1 - p).log()).mean()
    ours = BCE(COUNTS, EXAMPLES, weight_power=power)(z, target)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(value, z, retain_graph=True)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)


@given(st.lists(st.integers(1, 999), min_size=2, max_size=20), st.floats(0, 2), st.floats(1, 1000), st.integers(2, 50))
def test_rarer_weighs_more_up_to_the_limit_and_counts_scaled_by_k_change_nothing(counts, power, most, k):
    n = torch.tensor(counts)
    limit = {"max_weight": most} if power > 0 else {}
    weight = BCE(n, 1000, power, **limit).positive_weight
    assert (weight[n.argsort()].diff() <= 1e-5 * weight.max()).all() and weight.max() <= most * (1 + 1e-6)
    torch.testing.assert_close(BCE(k * n, k * 1000, power, **limit).positive_weight, weight)


@pytest.mark.parametrize(
    "knob",
    [{"weight_power": 0.5}, {"weight_power": 0.5, "max_weight": 2}, {"tau": 0.5}, {"label_smoothing": 0.1}],
    ids=lambda knob: "-".join(knob),
)
def test_every_setting_acts(knob):
    logits, target = batch()
    values = [float(BCE(COUNTS, EXAMPLES, **knobs)(logits, target)) for knobs in (knob, {}, {"weight_power": 0.5})]
    assert abs(values[0] - values[1]) > 1e-3
    assert knob == {"weight_power": 0.5} or abs(values[0] - values[2]) > 1e-3
    loss = BCE(COUNTS, EXAMPLES, **knob)
    assert (loss.weighs_classes, loss.corrects_prior) == ("weight_power" in knob, "tau" in knob)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weight_power": -0.1}, r"loss\.weight_power is -0\.1; .*between 0 and 2"),
        ({"weight_power": math.nan}, r"loss\.weight_power is nan"),
        ({"weight_power": 1, "max_weight": 0.9}, r"loss\.max_weight is 0\.9; .*1 or more"),
        ({"max_weight": 10}, r"loss\.max_weight is 10, but with loss\.weight_power=0 there are no weights"),
        ({"tau": -1}, r"loss\.tau is -1; .*0 or more"),
        ({"tau": math.inf}, r"loss\.tau is inf"),
        ({"tau": 0.5, "weight_power": 1}, r"loss\.weight_power is 1 and loss\.tau is 0\.5; .*Set one of them to 0"),
        ({"label_smoothing": 1.1}, r"loss\.label_smoothing is 1\.1"),
    ],
)
def test_bad_values_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        BCE(COUNTS, EXAMPLES, **settings)


def test_what_training_adds_to_the_logits_is_told():
    counts = torch.tensor([1, 5, 9])
    adjusted = BCE(counts, 10, tau=2.0)
    torch.testing.assert_close(adjusted.prior_logits, 2 * torch.tensor([1 / 9, 1.0, 9.0]).log())
    assert BCE(counts, 10).prior_logits is None
