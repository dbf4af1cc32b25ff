import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from birdclf.errors import UserError
from birdclf.losses.base import effective_number
from birdclf.losses.ldam import LDAM, USUAL_SCALE
from birdclf.models import head

COUNTS = torch.tensor([1216, 300, 40, 12, 2])


def batch(seed: int = 0, scale: float = 10.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(16, 5, generator=generator), torch.randint(0, 5, (16,), generator=generator)


def as_written(loss: LDAM, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy after the margin is taken off the true class's logit, a ``(B,)``."""
    z = logits.double()
    z = z - functional.one_hot(target, 5) * loss.margin.double()
    return functional.cross_entropy(z, target, reduction="none")


def test_by_hand():
    # margins 0.5 and 0.5 (1 / 16)^(1/4) = 0.25; scale 2 makes them 1 and 0.5
    loss = LDAM(torch.tensor([1, 16]), scale=2.0)
    assert loss.margin.tolist() == [1.0, 0.5]
    # z = 1, 0: class 0 costs log(1 + e^(0 - 1 + 1)), class 1 log(1 + e^(1 - 0 + 0.5))
    expected = (math.log(2) + math.log1p(math.exp(1.5))) / 2
    assert float(loss(torch.tensor([[1.0, 0.0]] * 2), torch.tensor([0, 1]))) == pytest.approx(expected)


def test_reweighting_by_hand():
    # beta 1/2 gives weights 14/11 and 8/11 for 1 and 3 recordings
    loss = LDAM(torch.tensor([1, 3]), max_margin=0.0, reweight_from=0.5, beta=0.5)
    logits, target = torch.tensor([[0.5, 0.5], [0.75, 0.25]]).log(), torch.tensor([0, 1])
    loss.begin_epoch(4, 10)
    assert float(loss(logits, target)) == pytest.approx((math.log(2) + math.log(4)) / 2)
    loss.begin_epoch(5, 10)
    assert float(loss(logits, target)) == pytest.approx((14 / 11 * math.log(2) + 8 / 11 * math.log(4)) / 2)


@given(st.integers(0, 10**6), st.floats(0.1, 40))
def test_the_formula_in_value_and_gradient(seed, scale):
    logits, target = batch(seed, scale)
    loss = LDAM(COUNTS)
    z = logits.double().requires_grad_()
    theirs, ours = as_written(loss, z, target).mean(), loss(z, target)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)
    gradients = [torch.autograd.grad(value, z)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(loss(logits, target), theirs.float(), rtol=1e-4, atol=1e-5)


def test_the_margin_still_costs_where_the_class_is_nearly_certain():
    """At p = 1 - 8e-9 float32's log p is 0, and a margin of 15 makes the loss 0.025 all the same."""
    logits, target = torch.tensor([[18.6, 0.0]]), torch.tensor([0])
    loss = LDAM(torch.tensor([1, 10]))
    assert float(loss(logits, target)) == pytest.approx(math.log1p(math.exp(15 - 18.6)), rel=1e-5)
    certain = torch.tensor([[18.6, 0.0, -5.0]]).requires_grad_()
    LDAM(torch.tensor([1, 10, 10]))(certain, target).backward()
    assert certain.grad[0, 0] < -0.02


def test_ties_for_the_largest_logit():
    loss = LDAM(COUNTS)
    logits = torch.tensor([[2.0, 2.0, 2.0, 1.0, 2.0]]).repeat(5, 1)
    target = torch.arange(5)
    torch.testing.assert_close(loss(logits, target), as_written(loss, logits, target).mean().float())


@given(st.integers(0, 10**6))
def test_margin_0_is_cross_entropy(seed):
    logits, target = batch(seed)
    for loss in (LDAM(COUNTS, max_margin=0.0), LDAM(COUNTS, max_margin=0.0, scale=1.0)):
        torch.testing.assert_close(loss(logits, target), functional.cross_entropy(logits, target))


@given(st.lists(st.integers(0, 10**5), min_size=2, max_size=9), st.floats(0.01, 2), st.floats(0.1, 64))
def test_the_rarest_class_has_the_largest_margin(counts, largest, scale):
    n = torch.tensor(counts)
    margin = LDAM(n, max_margin=largest, scale=scale).margin
    assert float(margin.max()) == pytest.approx(scale * largest)
    ratios = margin.double() * n.double().clamp_min(1) ** 0.25
    torch.testing.assert_close(ratios, ratios[0].expand_as(ratios), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("share", "epochs", "first"), [(0.8, 50, 40), (0.8, 5, 4), (0.7, 10, 7), (0.5, 3, 2), (0, 4, 0)]
)
def test_weights_come_with_the_last_part_of_training(share, epochs, first):
    loss = LDAM(COUNTS, reweight_from=share)
    met = []
    for epoch in range(epochs):
        loss.begin_epoch(epoch, epochs)
        met.append(loss.reweighs)
    assert met == [epoch >= first for epoch in range(epochs)]


def test_without_reweighting_there_is_none():
    logits, target = batch()
    loss = LDAM(COUNTS, reweight_from=None)
    early = loss(logits, target)
    loss.begin_epoch(9, 10)
    assert torch.equal(loss(logits, target), early) and not loss.weighs_classes
    assert LDAM(COUNTS).weighs_classes


def test_every_setting_acts():
    logits, target = batch()
    values = set()
    for knob in ({}, {"max_margin": 0.3}, {"scale": 20}, {"reweight_from": None}, {"beta": 0.9}):
        loss = LDAM(COUNTS, **knob)
        loss.begin_epoch(9, 10)
        values.add(float(loss(logits, target)))
    assert len(values) == 5
    torch.testing.assert_close(LDAM(COUNTS).weight, effective_number(COUNTS, 0.99))


def test_the_usual_scale_is_the_cosine_heads():
    assert USUAL_SCALE == head.USUAL_SCALE == head.CosineLinear(2, 3).scale == LDAM(COUNTS).cosine_scale
    assert inspect.signature(LDAM).parameters["scale"].default is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_margin": -0.1}, r"loss\.max_margin is -0\.1; .* between 0 and 2"),
        ({"max_margin": math.nan}, r"loss\.max_margin"),
        ({"scale": 0}, r"loss\.scale is 0; .* set model\.scale"),
        ({"scale": math.inf}, r"loss\.scale is inf"),
        ({"reweight_from": 1.1}, r"loss\.reweight_from is 1\.1; .* between 0 and 1"),
        ({"beta": 1}, r"loss\.beta is 1; it must be below 1"),
        ({"reweight_from": None, "beta": 0.9}, r"loss\.beta is 0\.9, but without loss\.reweight_from"),
    ],
)
def test_bad_values_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        LDAM(COUNTS, **settings)


def test_a_training_that_ended_before_the_weights_is_reported():
    loss = LDAM(COUNTS, reweight_from=0.8)
    assert loss.cut_short(9, 10) is None
    assert "loss.reweight_from is 0.8" in loss.cut_short(8, 10)
    assert LDAM(COUNTS, reweight_from=None).cut_short(1, 10) is None
    for epochs in range(1, 11):
        loss.begin_epoch(epochs - 1, 10)
        assert loss.reweighs == (loss.cut_short(epochs, 10) is None)
