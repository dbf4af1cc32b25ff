"""Probes: logits of windows pooled to one row a recording, and heads that are found."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from birdclf.errors import UserError
from birdclf.models.head import CosineLinear, output_layer
from birdclf.models.probes import (
    POOLS,
    Attention,
    CosineProbe,
    LinearProbe,
    MLPProbe,
    Probe,
    PrototypeProbe,
    Prototypes,
    in_format,
    max_by_owner,
    mean_by_owner,
)

KINDS = (LinearProbe, MLPProbe, CosineProbe, PrototypeProbe)
OWNER = torch.tensor([0, 0, 0, 1, 2, 2])
LOGITS = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 3.0], [7.0, -1.0], [0.0, 0.0], [0.0, math.log(3.0)]])
counts = st.lists(st.integers(1, 5), min_size=1, max_size=6)


def bags(sizes: list[int], width: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return values ``(W, width)`` of windows and their owners."""
    generator = torch.Generator().manual_seed(seed)
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return 3 * torch.randn(len(owner), width, generator=generator), owner


def pooled(pool: str, logits: Tensor, owner: Tensor, **settings: float) -> Tensor:
    probe = LinearProbe(logits.shape[1], in_channels=4, pool=pool, **settings)
    vectors, _ = bags([len(owner)])
    return probe.pool_windows(logits, vectors, owner, int(owner.max()) + 1)


def test_pools_worked_by_hand():
    torch.testing.assert_close(
        pooled("mean", LOGITS, OWNER), torch.tensor([[3.0, 1.0], [7.0, -1.0], [0, math.log(3) / 2]])
    )
    torch.testing.assert_close(pooled("max", LOGITS, OWNER), torch.tensor([[5.0, 3.0], [7.0, -1.0], [0, math.log(3)]]))
    smooth = pooled("log_mean_exp", LOGITS, OWNER)
    first = [math.log((math.e + math.e**3 + math.e**5) / 3), math.log((2 + math.e**3) / 3)]
    torch.testing.assert_close(smooth, torch.tensor([first, [7.0, -1.0], [0.0, math.log(2.0)]]))
    sharper = pooled("log_mean_exp", LOGITS, OWNER, sharpness=2.0)
    torch.testing.assert_close(sharper[2], torch.tensor([0.0, math.log(5.0) / 2]))


@given(counts, st.integers(0, 1000))
def test_a_smooth_maximum_lies_between_mean_and_maximum_and_tends_to_both(sizes, seed):
    logits, owner = bags(sizes, seed=seed)
    mean, most = mean_by_owner(logits, owner, len(sizes)), max_by_owner(logits, owner, len(sizes))
    for sharpness in (0.1, 1.0, 5.0):
        smooth = pooled("log_mean_exp", logits, owner, sharpness=sharpness)
        assert (smooth >= mean - 1e-4).all() and (smooth <= most + 1e-4).all()
        assert (smooth >= most - math.log(max(sizes)) / sharpness - 1e-4).all()
    torch.testing.assert_close(pooled("log_mean_exp", logits, owner, sharpness=1e-3), mean, rtol=0, atol=0.1)
    torch.testing.assert_close(pooled("log_mean_exp", logits, owner, sharpness=1e3), most, rtol=0, atol=0.01)


def test_a_smooth_maximum_overflows_nowhere():
    logits = torch.tensor([[1e4, -1e4], [-1e4, -1e4], [3e4, 0.0]])
    logits.requires_grad_()
    smooth = pooled("log_mean_exp", logits, torch.tensor([0, 0, 1]), sharpness=10.0)
    assert smooth.isfinite().all()
    smooth.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, 0.5], [0.0, 0.5], [1.0, 1.0]]))


@given(counts, st.integers(0, 1000))
def test_means_and_maxima_are_those_of_each_recording(sizes, seed):
    values, owner = bags(sizes, seed=seed)
    parts = values.split(sizes)
    torch.testing.assert_close(mean_by_owner(values, owner, len(sizes)), torch.stack([p.mean(dim=0) for p in parts]))
    assert torch.equal(max_by_owner(values, owner, len(sizes)), torch.stack([p.amax(dim=0) for p in parts]))


@given(counts, st.integers(0, 1000))
def test_weights_of_attention_are_those_of_a_softmax_over_each_recording(sizes, seed):
    vectors, owner = bags(sizes, seed=seed)
    torch.manual_seed(seed)
    attention = Attention(4, 8).double()
    weights = attention(vectors.double(), owner, len(sizes))
    assert weights.shape == (len(vectors), 1) and (weights >= 0).all()
    for part, given_weights in zip(vectors.split(sizes), weights.split(sizes), strict=True):
        hidden = torch.tanh(attention.content(part.double())) * torch.sigmoid(attention.gate(part.double()))
        torch.testing.assert_close(given_weights, attention.score(hidden).float().softmax(dim=0))
        torch.testing.assert_close(given_weights.sum(), torch.ones(()))


@pytest.mark.parametrize("pool", POOLS)
@given(counts, st.integers(0, 1000))
def test_the_order_of_windows_does_not_matter_nor_does_company(pool, sizes, seed):
    vectors, owner = bags(sizes, seed=seed)
    torch.manual_seed(0)
    probe = LinearProbe(3, in_channels=4, pool=pool).eval()

    def rows(x: Tensor, whose: Tensor, recordings: int) -> Tensor:
        return probe.pool_windows(probe(x), x, whose, recordings).detach()

    found = rows(vectors, owner, len(sizes))
    order = torch.cat([part[torch.randperm(len(part))] for part in torch.arange(len(owner)).split(sizes)])
    torch.testing.assert_close(rows(vectors[order], owner, len(sizes)), found)
    if probe.attention is not None:
        weights = probe.attention(vectors, owner, len(sizes))
        torch.testing.assert_close(probe.attention(vectors[order], owner, len(sizes)), weights[order])
    alone = [rows(part, torch.zeros(len(part), dtype=torch.int64), 1) for part in vectors.split(sizes)]
    torch.testing.assert_close(found, torch.cat(alone))


def test_attention_learns_which_window_says_something():
    """One window of three has the class; the others are marked, and louder noise that a mean cannot leave out."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 2, (300,), generator=generator)
    x = torch.randn(300, 3, 2, generator=generator)
    x[:, :, 0] = torch.tensor([-2.0, 2.0, -2.0])
    x[:, [0, 2], 1] *= 5
    x[:, 1, 1] = 2.0 * target - 1
    vectors, owner = x.flatten(0, 1), torch.repeat_interleave(torch.arange(300), 3)
    right = {}
    for pool in ("mean", "attention"):
        torch.manual_seed(0)
        probe = LinearProbe(2, in_channels=2, pool=pool)
        optimizer = torch.optim.Adam(probe.parameters(), lr=0.05)
        for _ in range(60):
            rows = probe.pool_windows(probe(vectors), vectors, owner, 300)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(rows, target).backward()
            optimizer.step()
        right[pool] = float((rows.argmax(dim=1) == target).float().mean())
    assert right["mean"] < 0.75 and right["attention"] > 0.97


@given(st.integers(1, 6), st.integers(0, 1000))
def test_one_prototype_a_class_is_the_cosine_head(width, seed):
    torch.manual_seed(seed)
    cosine, one = CosineLinear(width, 3, scale=7.0), Prototypes(width, 3, prototypes=1, scale=7.0)
    with torch.no_grad():
        one.weight.copy_(cosine.weight[:, None])
    x = torch.randn(5, width)
    torch.testing.assert_close(one(x), cosine(x), rtol=1e-4, atol=1e-4)


def test_prototypes_worked_by_hand():
    layer = Prototypes(2, 2, prototypes=2, scale=2.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, 0.0], [0.0, 5.0]], [[-2.0, 0.0], [-1.0, 0.0]]]))
    found = layer(torch.tensor([[3.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[math.log((math.e**2 + 1) / 2), -2.0]]))


@given(st.integers(1, 5), st.integers(0, 1000))
def test_equal_prototypes_are_one_and_no_logit_exceeds_the_scale(prototypes, seed):
    torch.manual_seed(seed)
    layer = Prototypes(4, 3, prototypes, scale=30.0)
    x = 100 * torch.randn(6, 4)
    assert layer(x).abs().max() <= 30.0 + 1e-4
    with torch.no_grad():
        layer.weight.copy_(layer.weight[:, :1].expand_as(layer.weight).clone())
    cosine = CosineLinear(4, 3, scale=30.0)
    with torch.no_grad():
        cosine.weight.copy_(layer.weight[:, 0])
    torch.testing.assert_close(layer(x), cosine(x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_output_layer_of_each_probe_is_found_and_all_of_it_learns(kind, pool):
    torch.manual_seed(0)
    probe = kind(5, in_channels=4, pool=pool)
    assert isinstance(probe, Probe)
    layer = output_layer(probe, 5)
    assert layer is probe.classifier is output_layer(probe)
    assert isinstance(layer, CosineLinear) == (kind in (CosineProbe, PrototypeProbe))
    vectors, owner = bags([2, 1, 3])
    rows = probe.pool_windows(probe(vectors), vectors, owner, 3)
    torch.nn.functional.cross_entropy(rows, torch.tensor([0, 3, 4])).backward()
    gradients = [p.grad for p in probe.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert layer.weight.grad.abs().sum() > 0


def test_a_linear_probe_is_logistic_regression_and_dropout_acts_in_training_alone():
    probe = LinearProbe(3, in_channels=4, dropout=0.5)
    x, _ = bags([50])
    expected = x @ probe.classifier.weight.T + probe.classifier.bias
    torch.testing.assert_close(probe.eval()(x), expected)
    assert not torch.allclose(probe.train()(x), expected)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LinearProbe(3, 4, pool="median"), r"model\.pool is 'median'; it must be one of mean, max"),
        (lambda: LinearProbe(3, 4, sharpness=2.0), r"model\.sharpness is 2\.0, but only model\.pool=log_mean_exp"),
        (lambda: LinearProbe(3, 4, pool="max", attention_units=8), r"model\.attention_units is 8.*pool=attention"),
        (lambda: LinearProbe(3, 4, pool="log_mean_exp", sharpness=0.0), r"model\.sharpness is 0"),
        (lambda: LinearProbe(3, 4, pool="attention", attention_units=0), r"model\.attention_units is 0"),
        (lambda: LinearProbe(3, 4, dropout=1.0), r"model\.dropout is 1"),
        (lambda: MLPProbe(3, 4, hidden=0), r"model\.hidden is 0"),
        (lambda: MLPProbe(3, 4, norm="group"), r"model\.norm is 'group'; it must be one of none, layer, batch"),
        (lambda: MLPProbe(3, 4, dropout=-0.1), r"model\.dropout is -0\.1"),
        (lambda: CosineProbe(3, 4, scale=0.0), r"model\.scale is 0"),
        (lambda: PrototypeProbe(3, 4, prototypes=0), r"model\.prototypes is 0"),
        (lambda: PrototypeProbe(3, 4, scale=-1.0), r"model\.scale is -1"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_only_bands_have_a_memory_format():
    vectors, bands = torch.randn(2, 3), torch.randn(2, 3, 4, 5)
    assert in_format(vectors, torch.channels_last) is vectors
    kept = in_format(bands, torch.channels_last)
    assert torch.equal(kept, bands) and kept.is_contiguous(memory_format=torch.channels_last)
