import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from birdclf.errors import UserError
from birdclf.losses.base import effective_number, inverse_power
from birdclf.losses.class_balanced import ClassBalanced
from birdclf.losses.focal import FocalLoss

COUNTS = torch.tensor([1216, 300, 40, 12, 2])


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(16, 5, generator=generator), torch.randint(0, 5, (16,), generator=generator)


def test_by_hand():
    # beta 1/2: 1 - 1/2 = 1/2 and 1 - 1/8 = 7/8, so weights 2 and 8/7, times 2 / (22/7): 14/11 and 8/11
    loss = ClassBalanced(torch.tensor([1, 3]), beta=0.5)
    torch.testing.assert_close(loss.weight, torch.tensor([14 / 11, 8 / 11]))
    logits = torch.tensor([[0.5, 0.5], [0.75, 0.25]]).log()
    expected = (14 / 11 * math.log(2) + 8 / 11 * math.log(4)) / 2
    assert float(loss(logits, torch.tensor([0, 1]))) == pytest.approx(expected)


def test_focal_by_hand():
    # the same weights; p = 1/4 gives (3/4)^2 log 4
    loss = ClassBalanced(torch.tensor([1, 3]), beta=0.5, inside="focal")
    logits = torch.tensor([[0.75, 0.25]]).log()
    assert float(loss(logits, torch.tensor([1]))) == pytest.approx(8 / 11 * 0.5625 * math.log(4))


@given(st.integers(0, 10**6))
def test_beta_0_is_the_loss_inside(seed):
    logits, target = batch(seed)
    plain = ClassBalanced(COUNTS, beta=0.0)
    assert plain.weight.tolist() == [1.0] * 5 and not plain.weighs_classes
    torch.testing.assert_close(plain(logits, target), functional.cross_entropy(logits, target))
    focal = ClassBalanced(COUNTS, beta=0.0, inside="focal", gamma=1.5)(logits, target)
    torch.testing.assert_close(focal, FocalLoss(COUNTS, gamma=1.5)(logits, target))


@given(st.lists(st.integers(0, 10**5), min_size=2, max_size=20), st.floats(0, 1 - 1e-9))
def test_weights_sum_to_the_classes_and_rarer_weighs_more(counts, beta):
    n = torch.tensor(counts)
    weight = effective_number(n, beta)
    assert float(weight.sum()) == pytest.approx(len(counts), rel=1e-5) and (weight > 0).all()
    assert (weight[torch.argsort(n)].diff() <= 1e-5 * weight.max()).all()


def test_near_1_they_are_inverse_frequency():
    weight, inverse = effective_number(COUNTS, 1 - 1e-9), inverse_power(COUNTS, 1.0)
    torch.testing.assert_close(weight, inverse * 5 / inverse.sum(), rtol=1e-4, atol=0)


def test_a_class_without_recordings_counts_as_one():
    assert torch.equal(effective_number(torch.tensor([50, 0]), 0.9), effective_number(torch.tensor([50, 1]), 0.9))


@pytest.mark.parametrize(
    "knob", [{"beta": 0.9}, {"inside": "focal"}, {"inside": "focal", "gamma": 1.0}], ids=lambda k: "-".join(k)
)
def test_every_setting_acts(knob):
    logits, target = batch()
    losses = {float(ClassBalanced(COUNTS, **other)(logits, target)) for other in (knob, {}, {"inside": "focal"})}
    assert len(losses) == (2 if knob == {"inside": "focal"} else 3)
    assert float(ClassBalanced(COUNTS, inside="focal")(logits, target)) == float(
        ClassBalanced(COUNTS, inside="focal", gamma=2.0)(logits, target)
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"beta": 1}, r"loss\.beta is 1; it must be below 1"),
        ({"beta": -0.1}, r"loss\.beta is -0\.1"),
        ({"beta": math.nan}, r"loss\.beta is nan"),
        ({"inside": "hinge"}, r"loss\.inside is 'hinge'; .* cross_entropy, focal"),
        ({"gamma": 2.0}, r"loss\.gamma is 2\.0, but cross_entropy has none\. Use loss\.inside=focal"),
        ({"inside": "focal", "gamma": -1}, r"loss\.gamma is -1"),
    ],
)
def test_bad_values_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        ClassBalanced(COUNTS, **settings)
