import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from birdclf.errors import UserError
from birdclf.losses.cross_entropy import CrossEntropy

COUNTS = torch.tensor([1216, 300, 40, 12, 2])
CLASSES = len(COUNTS)


def batch(seed: int = 0, n: int = 16, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, CLASSES, generator=generator)
    return logits, torch.randint(0, CLASSES, (n,), generator=generator)


def test_by_hand():
    # p = 1/2, 1/4, 1/4 and 1/4, 1/2, 1/4
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]).log()
    loss = CrossEntropy(torch.tensor([1, 1, 1]))
    assert float(loss(logits, torch.tensor([0, 2]))) == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_weights_by_hand():
    # counts 90, 10 give weights 5/9 and 5; p = 1/2 and 1/4 for the true classes
    logits = torch.tensor([[0.5, 0.5], [0.75, 0.25]]).log()
    loss = CrossEntropy(torch.tensor([90, 10]), weight_power=1.0)
    expected = (5 / 9 * math.log(2) + 5 * math.log(4)) / (5 / 9 + 5)
    assert float(loss(logits, torch.tensor([0, 1]))) == pytest.approx(expected)


def test_smoothing_by_hand():
    # t' = 0.9 + 0.05, 0.05 for two classes
    logits = torch.tensor([[0.75, 0.25]]).log()
    loss = CrossEntropy(torch.tensor([1, 1]), label_smoothing=0.1)
    expected = -(0.95 * math.log(0.75) + 0.05 * math.log(0.25))
    assert float(loss(logits, torch.tensor([0]))) == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_agrees_with_torch_in_value_and_gradient(power, smoothing):
    logits, target = batch()
    loss = CrossEntropy(COUNTS, weight_power=power, label_smoothing=smoothing)
    z = logits.clone().requires_grad_()
    theirs = functional.cross_entropy(z, target, weight=loss.weight, label_smoothing=smoothing)
    expected = torch.autograd.grad(theirs, z)[0]
    ours = loss(z, target)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, z)[0], expected)


def test_soft_targets_without_weights_are_torchs():
    logits, _ = batch()
    soft = torch.softmax(batch(seed=1)[0], dim=1)
    torch.testing.assert_close(CrossEntropy(COUNTS)(logits, soft), functional.cross_entropy(logits, soft))


def test_soft_targets_keep_the_scale_of_a_weighted_loss():
    """A logit row that predicts every class alike costs log K whatever the target and the weights."""
    soft = torch.softmax(batch(seed=1)[0], dim=1)
    loss = CrossEntropy(COUNTS, weight_power=1.0)
    assert float(loss(torch.zeros(16, CLASSES), soft)) == pytest.approx(math.log(CLASSES), rel=1e-5)


@given(st.integers(0, 10**6), st.integers(2, 50), st.floats(0, 2))
def test_counts_scaled_by_k_change_nothing(seed, k, power):
    logits, target = batch(seed)
    one, two = CrossEntropy(COUNTS, weight_power=power), CrossEntropy(k * COUNTS, weight_power=power)
    torch.testing.assert_close(one(logits, target), two(logits, target))


@pytest.mark.parametrize(
    "setting", [{"weight_power": 0.5}, {"weight_power": 1.0}, {"label_smoothing": 0.1}], ids=lambda s: next(iter(s))
)
def test_every_setting_acts(setting):
    logits, target = batch()
    z = logits.requires_grad_()
    other, usual = (
        torch.autograd.grad(loss(z, target), z)[0] for loss in (CrossEntropy(COUNTS, **setting), CrossEntropy(COUNTS))
    )
    assert (other - usual).abs().max() > 1e-3


def test_max_weight_ratio_acts():
    weight = CrossEntropy(COUNTS, weight_power=1.0, max_weight_ratio=10).weight
    assert float(weight.max() / weight.min()) == pytest.approx(10)
    free = CrossEntropy(COUNTS, weight_power=1.0).weight
    assert float(free.max() / free.min()) == pytest.approx(1216 / 2)
    even = CrossEntropy(COUNTS, weight_power=1.0, max_weight_ratio=1).weight
    torch.testing.assert_close(even, torch.ones(CLASSES))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight_power", -0.5),
        ("weight_power", 2.5),
        ("weight_power", math.nan),
        ("label_smoothing", -0.1),
        ("label_smoothing", 1.1),
        ("label_smoothing", math.nan),
        ("max_weight_ratio", 0.5),
        ("max_weight_ratio", math.nan),
        ("max_weight_ratio", math.inf),
    ],
)
def test_bad_values_are_refused(name, value):
    with pytest.raises(UserError, match=rf"loss\.{name} is"):
        CrossEntropy(COUNTS, **{name: value})
