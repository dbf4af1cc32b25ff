"""AudioCNNv3: every knob acts, and it is small."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from birdclf.errors import UserError
from birdclf.models.audio_cnn_v3 import (
    POOLS,
    AttentionPool,
    AudioCNNv3,
    DropPath,
    Excitation,
    GeMPool,
    ResidualBlock,
    with_heights,
)
from birdclf.models.head import CosineLinear, output_layer


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def tiny(**knobs: Any) -> AudioCNNv3:
    torch.manual_seed(0)
    return AudioCNNv3(4, **{"width": 0.1, **knobs})


def test_it_is_no_larger_than_audio_cnn_v2():
    assert parameters(AudioCNNv3(89)) == 2_988_651 <= 4_300_000


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(20, 128), st.integers(20, 120), st.sampled_from(sorted(POOLS)))
def test_any_channels_and_sizes_give_logits(channels: int, bands: int, frames: int, pooling: str):
    net = tiny(in_channels=channels, pooling=pooling).eval()
    logits = net(torch.randn(1, channels, bands, frames))
    assert logits.shape == (1, 4) and logits.isfinite().all()


KNOBS: list[dict[str, Any]] = [
    {"width": 0.2}, {"depth": 2}, {"stem_stride": 1}, {"excite": False}, {"heights": False}, {"pooling": "mean"},
    {"pooling": "mean_max"}, {"pooling": "gem"}, {"head": "cosine"},
]  # fmt: skip


@pytest.mark.parametrize("knob", KNOBS, ids=str)
def test_every_knob_changes_the_logits(knob: dict[str, Any]):
    x = torch.randn(2, 3, 20, 60)
    assert not torch.allclose(tiny().eval()(x), tiny(**knob).eval()(x))


@pytest.mark.parametrize("knob", [{"dropout": 0.5}, {"drop_path": 0.5}])
def test_dropout_and_drop_path_act_in_training_only(knob: dict[str, float]):
    net, x = tiny(**{"dropout": 0.0, **knob}), torch.randn(4, 3, 20, 60)
    with torch.no_grad():
        state = torch.get_rng_state()
        first = net.train()(x)
        assert float((net(x) - first).abs().max()) > 0
        torch.set_rng_state(state)
        torch.testing.assert_close(net(x), first, rtol=0, atol=0)
        torch.testing.assert_close(net.eval()(x), net(x), rtol=0, atol=0)


def test_drop_path_grows_with_depth():
    net = tiny(drop_path=0.3, depth=1)
    rates = [module.p for module in net.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_dropped_path_leaves_the_shortcut_and_the_expectation():
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    rows = drop(torch.ones(4000, 2, 1, 1))[:, :, 0, 0]
    assert sorted(set(rows.flatten().tolist())) == pytest.approx([0.0, 1 / 0.75])
    assert bool((rows[:, 0] == rows[:, 1]).all()) and float(rows.mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("pooling", sorted(POOLS))
def test_gradients_reach_every_parameter(pooling: str):
    net = tiny(pooling=pooling, head="cosine", depth=2).train()
    assert isinstance(output_layer(net, 4), CosineLinear)
    net(torch.randn(3, 3, 20, 60)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_evaluation_folds_norms_to_the_same_values():
    torch.manual_seed(0)
    block = ResidualBlock(5, 6)
    for norm in (m for m in block.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.weight)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    x = torch.randn(2, 5, 7, 9)
    expected = block.eval()(x)
    assert float(expected.detach().min()) == 0 and float(block.second(block.first(x)).detach().min()) < 0
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


def test_pools_of_a_constant_map_give_the_constant():
    x = torch.full((2, 8, 3, 5), 0.7)
    for name in POOLS:
        expected = torch.full((2, 8), 1.4 if name == "mean_max" else 0.7)
        torch.testing.assert_close(POOLS[name](8)(x), expected)


def test_attention_weighs_places_as_the_softmax_says():
    pool, x = AttentionPool(8), torch.randn(2, 8, 3, 5)
    scores = torch.einsum("gc,bcft->bgft", pool.score.weight[:, :, 0, 0], x) + pool.score.bias[:, None, None]
    weights = scores.exp() / scores.exp().sum(dim=(2, 3), keepdim=True)
    expected = (x * weights.repeat_interleave(2, dim=1)).sum(dim=(2, 3))
    torch.testing.assert_close(pool(x), expected)


def test_heights_rise_from_minus_1_to_1():
    x = with_heights(torch.randn(2, 3, 5, 7))
    assert x.shape == (2, 4, 5, 7)
    assert torch.equal(x[:, 3], torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])[:, None].expand(2, 5, 7))


@pytest.mark.parametrize(
    "knob",
    [{"depth": 0}, {"stem_stride": 0}, {"depth": 1.5}, {"pooling": "max"}, {"drop_path": 1.0}, {"width": 0.0},
     {"dropout": -0.1}, {"head": "x"}],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_is_refused(knob: dict[str, Any]):
    with pytest.raises(UserError, match=rf"model\.{next(iter(knob))} is"):
        tiny(**knob)


def test_the_exponent_of_gem_stays_between_the_mean_and_nearly_the_maximum():
    x = torch.rand(2, 3, 4, 5)
    pool = GeMPool()
    for exponent, bound in ((0.2, 1.0), (50.0, 8.0)):
        torch.nn.init.constant_(pool.exponent, exponent)
        torch.testing.assert_close(pool(x), x.pow(bound).mean(dim=(2, 3)).pow(1 / bound))


def test_the_gate_has_the_gradients_of_a_plain_mean():
    torch.manual_seed(2)
    excite = Excitation(16)
    x = torch.randn(3, 16, 5, 7).contiguous(memory_format=torch.channels_last)
    ours, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
    out = excite(ours)
    expected = plain * excite.gate(plain.mean(dim=(2, 3)))[:, :, None, None]
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    for value in (out, expected):
        (value * weight).sum().backward(retain_graph=True)
    torch.testing.assert_close(ours.grad, plain.grad)
    assert ours.grad.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(excite(x), expected)
