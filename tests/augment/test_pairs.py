"""mixup and Remix: shares, partners, labels, and losses of soft targets."""

import numpy as np
import pytest
import torch
from batches import COUNTS, EXACT, NOW, batch, chain
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from birdclf.augment.augmentation import partners
from birdclf.augment.chain import BatchPosition
from birdclf.augment.mixup import Mixup, Remix, union
from birdclf.errors import UserError
from birdclf.losses.cross_entropy import CrossEntropy
from birdclf.losses.focal import FocalLoss


def shares(link: Mixup, size: int = 4000) -> np.ndarray:
    """Return the share of its own features that each window keeps: window i holds nothing but i + 1."""
    link.bind(EXACT, COUNTS)
    x = torch.arange(1.0, size + 1)[:, None, None, None]
    rng = np.random.default_rng(5)
    mixed, _ = link(x, torch.zeros(size, dtype=torch.int64), np.arange(size), rng)
    again = np.random.default_rng(5)
    again.beta(link.alpha, link.alpha, size)
    other = partners(size, again) + 1
    own = np.arange(1, size + 1)
    return (mixed.flatten().double().numpy() - other) / (own - other)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.5])
@pytest.mark.parametrize("kind", [Mixup, Remix])
def test_shares_are_beta(kind, alpha):
    found = shares(kind(alpha=alpha))
    assert stats.kstest(np.clip(found, 0, 1), stats.beta(alpha, alpha).cdf).pvalue > 0.01


@given(st.integers(2, 40), st.integers(0, 1000))
def test_a_partner_is_always_another_window(size, seed):
    other = partners(size, np.random.default_rng(seed))
    assert (other != np.arange(size)).all() and (other >= 0).all() and (other < size).all()


def test_features_and_labels_are_mixed_alike():
    bands, target = batch(5)
    target = torch.arange(5)
    x, y = chain(Mixup(alpha=1.0))(bands, target, EXACT, NOW)
    # Each class is one window, so that the label says what the features were mixed from.
    torch.testing.assert_close(x, torch.einsum("ij,jcft->icft", y, EXACT(bands)), rtol=1e-4, atol=1e-4)
    assert (y.diagonal() > 0).all() and (y > 0).sum() == 10


@pytest.mark.parametrize("make", [FocalLoss, CrossEntropy])
def test_the_loss_of_a_soft_target_is_the_mix_of_two_losses(make):
    loss = make(COUNTS)
    bands, target = batch(6)
    _, y = chain(Mixup(alpha=1.0))(bands, target, EXACT, NOW)
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
    rng_chain = chain(Mixup(alpha=1.0))
    ((link, rows, rng),) = rng_chain._acting(Mixup, NOW, 6)
    share = torch.from_numpy(rng.beta(1.0, 1.0, 6)).float()
    other = target[torch.from_numpy(partners(6, rng))]
    one_by_one = torch.stack(
        [
            share[i] * loss(logits[i : i + 1], target[i : i + 1])
            + (1 - share[i]) * loss(logits[i : i + 1], other[i : i + 1])
            for i in range(6)
        ]
    ).mean()
    soft = loss(logits, y)
    torch.testing.assert_close(soft, one_by_one)
    gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (soft, one_by_one)]
    torch.testing.assert_close(*gradients)


def test_windows_that_are_not_mixed_keep_their_class():
    bands, target = batch(100)
    x, y = chain(Mixup(p=0.4, alpha=1.0))(bands, target, EXACT, NOW)
    same = (x == EXACT(bands)).flatten(1).all(dim=1)
    assert 40 < same.sum() < 80
    assert torch.equal(y[same], torch.nn.functional.one_hot(target, 5).float()[same])


def test_targets_are_soft_in_every_batch_where_pairs_may_be_mixed():
    """Processes that train together exchange targets: what one of them drew must not change their shape."""
    bands, target = batch(3)
    links = chain(Mixup(p=0.05))
    for number in range(10):
        x, y = links(bands, target, EXACT, BatchPosition(0, number))
        assert y.shape == (3, 5) and x.shape[0] == 3


codes = st.sampled_from([1.0, 0.0, -1.0])


def test_sets_are_added_worked_by_hand():
    one = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0, -1.0]])
    other = torch.tensor([[1.0, 0.0, -1.0, 0.0, -1.0, -1.0]])
    assert union(one, other).tolist() == union(other, one).tolist() == [[1, 1, 1, 0, -1, -1]]


@given(st.lists(st.tuples(codes, codes, codes), min_size=1))
def test_adding_sets_has_no_order_and_nothing_to_add_to_itself(triples):
    a, b, c = torch.tensor(triples).T
    assert torch.equal(union(a, b), union(b, a)) and torch.equal(union(a, a), a)
    assert torch.equal(union(union(a, b), c), union(a, union(b, c)))
    assert torch.equal(union(a, torch.zeros_like(a)), a)


def test_a_mixed_window_has_the_species_of_both_and_others_keep_theirs():
    bands, _ = batch(100)
    target = torch.randint(-1, 2, (100, 5), generator=torch.Generator().manual_seed(2)).float()
    links = chain(Mixup(p=0.4), task="multi_label")
    ((_, rows, rng),) = links._acting(Mixup, NOW, 100)
    rng.beta(0.2, 0.2, 100)
    other = partners(100, rng)[rows]
    _, y = links(bands, target, EXACT, NOW)
    assert 20 < len(rows) < 60
    expected = target.clone()
    expected[rows] = union(target[rows], target[other])
    assert torch.equal(y, expected)


def test_sets_in_a_batch_of_one_stay_as_they_are():
    bands, _ = batch(1)
    target = torch.tensor([[1.0, 0.0, -1.0, 1.0, 0.0]])
    assert torch.equal(chain(Mixup(), task="multi_label")(bands, target, EXACT, NOW)[1], target)


@pytest.mark.parametrize("limit", [{"kappa": float("inf")}, {"tau": 0.0}])
def test_remix_without_its_rule_is_mixup(limit):
    bands, target = batch(32)
    x, y = (f for f in chain(Remix(alpha=1.0, **limit))(bands, target, EXACT, NOW))
    mixup = Remix(alpha=1.0, **limit)
    mixup.label_share = Mixup.label_share.__get__(mixup)
    x_mixup, y_mixup = chain(mixup)(bands, target, EXACT, NOW)
    assert torch.equal(x, x_mixup) and torch.equal(y, y_mixup)


def test_equal_counts_are_mixup():
    remix = Remix(alpha=1.0)
    remix.bind(EXACT, torch.full((5,), 30))
    share = torch.linspace(0, 1, 11)
    classes = torch.randint(0, 5, (2, 11))
    assert torch.equal(remix.label_share(share, classes[0], classes[1]), share)


def test_the_rarer_class_takes_the_label():
    """Chou et al. (2020), equation 10, by hand: counts 400, 60, 20, 5, 1, kappa 3, tau 0.5."""
    remix = Remix(kappa=3.0, tau=0.5)
    remix.bind(EXACT, COUNTS)
    cases = [  # share, own, other, share of the label
        (0.4, 0, 1, 0.0),  # 400 : 60, less than tau of it: the rarer one takes all
        (0.5, 0, 1, 0.5),  # not less than tau
        (0.9, 0, 1, 0.9),
        (0.6, 4, 3, 1.0),  # 1 : 5, the other one has less than tau
        (0.5, 4, 3, 0.5),
        (0.1, 4, 3, 0.1),
        (0.4, 1, 2, 0.0),  # 60 : 20 is kappa itself
        (0.6, 2, 1, 1.0),
        (0.4, 2, 2, 0.4),
    ]
    share, own, other, expected = (torch.tensor(column) for column in zip(*cases, strict=True))
    torch.testing.assert_close(remix.label_share(share, own, other), expected)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Mixup(alpha=0.0), "augment.mixup.alpha is 0.0; it must be above 0"),
        (lambda: Mixup(alpha="high"), "augment.mixup.alpha is 'high'"),
        (lambda: Remix(kappa=0.5), "augment.remix.kappa is 0.5; it must be a number of 1 or more"),
        (lambda: Remix(tau=2), "augment.remix.tau is 2"),
        (lambda: Mixup(p=True), "augment.mixup.p is True"),
        (lambda: chain(Mixup(), Remix()), "augment has both mixup and remix"),
        (lambda: chain(Remix(), task="multi_label"), "augment.remix is for task=single_label, .*or use mixup"),
        (lambda: chain(Mixup(), batch_size=1), "loader.batch_size is 1 per process"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()
