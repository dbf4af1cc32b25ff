import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from birdclf.errors import UserError
from birdclf.models.audio_cnn import AudioCNN
from birdclf.models.audio_cnn_v2 import AudioCNNv2
from birdclf.models.head import CosineLinear, classifier_layer, output_layer

NETWORKS = [AudioCNN, AudioCNNv2]


def test_by_hand():
    # (3, 4) against (1, 0), (0, 2), (-3, -4): cosines 0.6, 0.8, -1
    layer = CosineLinear(2, 3, scale=10)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, -4.0]]))
    torch.testing.assert_close(layer(torch.tensor([[3.0, 4.0]])), torch.tensor([[6.0, 8.0, -10.0]]))


@given(seed=st.integers(0, 10**6), longer=st.floats(1e-3, 1e3), scale=st.floats(0.1, 100))
def test_lengths_change_nothing_and_the_scale_bounds_the_logits(seed, longer, scale):
    torch.manual_seed(seed)
    layer, x = CosineLinear(5, 4, scale), torch.randn(6, 5)
    logits = layer(x)
    assert float(logits.detach().abs().max()) <= scale * (1 + 1e-5)
    with torch.no_grad():
        layer.weight *= longer
    torch.testing.assert_close(layer(longer * x), logits, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_features_of_any_size_give_finite_logits_and_gradients(dtype, size):
    layer = CosineLinear(8, 3)
    x = (size * torch.ones(2, 8)).to(dtype).requires_grad_()
    logits = layer(x)
    logits.sum().backward()
    assert logits.isfinite().all() and layer.weight.grad.isfinite().all()
    if size == 0:
        assert not logits.any()


@pytest.mark.parametrize("network", NETWORKS)
def test_a_linear_head_is_the_default_and_draws_as_before(network):
    torch.manual_seed(0)
    usual = network(4, width=0.1)
    torch.manual_seed(0)
    named = network(4, width=0.1, head="linear")
    assert all(torch.equal(a, b) for a, b in zip(usual.parameters(), named.parameters(), strict=True))
    assert type(usual.classifier[-1]) is nn.Linear


@pytest.mark.parametrize("network", NETWORKS)
def test_a_cosine_head_learns(network):
    torch.manual_seed(0)
    net = network(4, width=0.25, dropout=0.0, head="cosine", scale=16)
    layer = output_layer(net)
    assert isinstance(layer, CosineLinear) and layer.scale == 16 and layer.out_features == 4
    logits = net(torch.randn(3, 3, 20, 32))
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert layer.weight.grad.any() and float(logits.detach().abs().max()) <= 16 * (1 + 1e-5)
    torch.testing.assert_close(layer.weight.detach().norm(dim=1), torch.ones(4))


def test_the_output_layer_is_found():
    last = nn.Linear(3, 7)
    network = nn.Sequential(nn.Linear(2, 3), last, nn.Sequential(nn.ReLU(), nn.Linear(7, 2)))
    assert output_layer(network, 7) is last and output_layer(network) is network[2][1]
    for network in NETWORKS:
        net = network(4, width=0.1)
        assert output_layer(net) is output_layer(net, 4) is net.classifier[-1]


def test_a_network_without_one_is_refused():
    with pytest.raises(UserError, match="Conv2d has no linear layer"):
        output_layer(nn.Conv2d(1, 1, 1))
    with pytest.raises(UserError, match="no linear layer of 3 outputs"):
        output_layer(nn.Linear(2, 4), 3)


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match=r"model\.head is 'round'; .* linear, cosine"):
        classifier_layer("round", 2, 3)
    with pytest.raises(UserError, match=r"a linear head has no scale\. Use model\.head=cosine"):
        classifier_layer("linear", 2, 3, scale=30)
    for scale in (0, -1, float("nan"), float("inf"), True):
        with pytest.raises(UserError, match=r"model\.scale is .* above 0"):
            classifier_layer("cosine", 2, 3, scale)
    assert classifier_layer("cosine", 2, 3).scale == 30
