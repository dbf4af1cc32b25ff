"""The quick convolution against the library's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from birdclf.losses.focal import FocalLoss
from birdclf.models import blocks as convolution
from birdclf.models.audio_cnn import AudioCNN
from birdclf.models.audio_cnn_v2 import AudioCNNv2
from birdclf.models.blocks import Conv3x3, ConvBlock, products_are_quicker, weight_gradient


def channels_last(*shape: int) -> Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def assert_near(found: Tensor, expected: Tensor, atol: float, name: str) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=atol, msg=lambda text: f"{name}: {text}")


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 4), channels_in=st.integers(1, 20), channels_out=st.integers(1, 20),
    height=st.integers(1, 24), width=st.integers(1, 40), seed=st.integers(0, 9),
)  # fmt: skip
def test_weight_gradient_is_that_of_the_convolution(
    batch: int, channels_in: int, channels_out: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    x, grad = channels_last(batch, channels_in, height, width), channels_last(batch, channels_out, height, width)
    weight = torch.zeros(channels_out, channels_in, 3, 3, dtype=torch.float64, requires_grad=True)
    nn.functional.conv2d(x.double(), weight, padding=1).backward(grad.double())
    expected = weight.grad
    tolerance = 1e-6 * (batch * height * width) ** 0.5 * 10
    torch.testing.assert_close(weight_gradient(x, grad).double(), expected, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("network", [AudioCNNv2, AudioCNN])
def test_losses_and_gradients_of_both_ways_agree(network: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model = network(num_classes=7, width=0.5, dropout=0.0).to(memory_format=torch.channels_last)
    x, target = channels_last(4, 3, 20, 60), torch.tensor([0, 3, 3, 6])
    loss = FocalLoss(torch.ones(7))
    seen = {}
    for way in (True, False):
        calls = []
        monkeypatch.setattr(convolution, "products_are_quicker", lambda x, way=way: way and x.shape[1] >= 16)
        counted = convolution.weight_gradient
        monkeypatch.setattr(convolution, "weight_gradient", lambda x, g, f=counted, c=calls: c.append(1) or f(x, g))
        model.zero_grad()
        value = loss(model(x), target)
        value.backward()
        monkeypatch.undo()
        assert bool(calls) is way  # else the two would be one way
        seen[way] = (value.detach(), {name: p.grad.clone() for name, p in model.named_parameters()})
    torch.testing.assert_close(seen[True][0], seen[False][0], rtol=1e-6, atol=0)
    largest = max(float(grad.abs().max()) for grad in seen[False][1].values())
    for name, grad in seen[False][1].items():
        assert_near(seen[True][1][name], grad, 1e-5 * largest, name)


def test_only_float32_on_such_a_cpu_takes_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    x = channels_last(2, 32, 4, 6)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert products_are_quicker(x)
    assert not products_are_quicker(x.bfloat16())
    assert not products_are_quicker(x.contiguous())
    assert not products_are_quicker(x[:, :8].contiguous(memory_format=torch.channels_last))
    assert not products_are_quicker(x.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not products_are_quicker(x)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not products_are_quicker(x)


def test_frozen_weights_and_missing_input_gradients_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "products_are_quicker", lambda x: True)
    conv = Conv3x3(16, 4).to(memory_format=torch.channels_last)
    first = channels_last(2, 16, 3, 5)
    conv(first).sum().backward()
    assert first.grad is None and conv.weight.grad is not None
    conv.weight.requires_grad_(False)
    x = channels_last(2, 16, 3, 5).requires_grad_()
    conv(x).sum().backward()
    expected = torch.nn.grad.conv2d_input(x.shape, conv.weight, torch.ones(2, 4, 3, 5), padding=1)
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize("pool", [True, False])
def test_without_gradients_the_norm_is_part_of_the_convolution(pool: bool) -> None:
    torch.manual_seed(1)
    block = ConvBlock(5, 6, pool=pool)
    for parameter in block.norm.parameters():
        nn.init.normal_(parameter)  # negative scales too
    block.norm.running_mean.normal_()
    block.norm.running_var.uniform_(0.1, 2.0)
    block.eval()
    x = torch.randn(3, 5, 8, 10)
    expected = block(x)
    called = []
    block.norm.register_forward_hook(lambda *_: called.append(1))
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)
    assert not called
    assert block(x).requires_grad and called  # whoever wants gradients, such as Grad-CAM, gets every layer
