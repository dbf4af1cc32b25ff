import copy

import pytest
import torch
from torch import nn

from birdclf.errors import UserError
from birdclf.models.audio_cnn import AudioCNN
from birdclf.models.audio_cnn_v2 import AudioCNNv2

NETWORKS = [AudioCNN, AudioCNNv2]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def layer(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU()]


def reference_audio_cnn(num_classes: int) -> nn.Module:
    """The published network as its paper draws it: every pool after the ReLU."""
    return nn.Sequential(
        *layer(3, 32), *layer(32, 32), nn.MaxPool2d(2),
        *layer(32, 64), *layer(64, 64), nn.MaxPool2d(2),
        *layer(64, 128), *layer(128, 128), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(128, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, num_classes),
    )  # fmt: skip


def reference_audio_cnn_v2(num_classes: int) -> nn.Module:
    """The published network as its paper draws it: every pool after the ReLU."""
    return nn.Sequential(
        *layer(3, 64), nn.MaxPool2d(2), *layer(64, 128), nn.MaxPool2d(2), *layer(128, 256), nn.MaxPool2d(2),
        *layer(256, 512), nn.MaxPool2d(2), *layer(512, 512), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, num_classes),
    )  # fmt: skip


REFERENCES = [(AudioCNN, reference_audio_cnn, 343_801), (AudioCNNv2, reference_audio_cnn_v2, 4_222_041)]


@pytest.mark.parametrize(("network", "reference", "count"), REFERENCES)
def test_published_parameter_counts(network, reference, count):
    assert parameters(network(89)) == parameters(reference(89)) == count


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("network", "reference", "count"), REFERENCES)
def test_outputs_and_gradients_are_those_of_relu_then_pool(network, reference, count, training):
    torch.manual_seed(0)
    ours = network(7, dropout=0.0)
    theirs = reference(7)
    for module in theirs.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():  # weights that use every part: the published start is nearly 0 in the linear layers
        for p in ours.parameters():
            p.copy_(torch.randn_like(p) * (0.1 if p.ndim < 4 else (2 / p[0].numel()) ** 0.5))
        for norm in (m for m in ours.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    assert [p.shape for p in ours.state_dict().values()] == [p.shape for p in theirs.state_dict().values()]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    ours, theirs = ours.double().train(training), theirs.double().train(training)
    x = torch.randn(2, 3, 20, 32, dtype=torch.float64)
    outputs = []
    for net in (ours, theirs):
        inputs = x.clone().requires_grad_()
        logits = net(inputs)
        (logits * torch.arange(1.0, 8)).square().sum().backward()
        outputs.append([logits, inputs.grad, *(p.grad for p in net.parameters())])
    for one, two in zip(*outputs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9 * float(two.detach().abs().max()) + 1e-12)
    assert outputs[0][0].std() > 0.01


@pytest.mark.parametrize("network", NETWORKS)
def test_published_input_gives_a_row_of_logits_a_recording(network):
    logits = network(89).eval()(torch.randn(2, 3, 20, 500))
    assert logits.shape == (2, 89) and logits.isfinite().all()


@pytest.mark.parametrize("network", NETWORKS)
def test_other_inputs(network):
    assert network(5, in_channels=1, width=0.25).eval()(torch.randn(2, 1, 64, 100)).shape == (2, 5)


@pytest.mark.parametrize("network", NETWORKS)
def test_width_is_a_capacity_knob(network):
    counts = [parameters(network(89, width=width)) for width in (0.25, 0.5, 1.0, 1.5)]
    assert counts == sorted(set(counts))
    assert counts[1] < 0.35 * counts[2]  # about the square
    assert network(4, width=0.5).eval()(torch.randn(1, 3, 20, 50)).shape == (1, 4)
    assert network(4, width=1e-6).eval()(torch.randn(1, 3, 20, 50)).shape == (1, 4)  # one channel at least


@pytest.mark.parametrize("network", NETWORKS)
def test_dropout_acts_in_training_only(network):
    x = torch.randn(2, 3, 20, 16)

    def spread(dropout: float, training: bool) -> float:
        torch.manual_seed(0)
        net = network(4, width=0.25, dropout=dropout).train(training)
        with torch.no_grad():
            return float((net(x) - net(x)).abs().max())

    assert spread(0.5, training=True) > 0
    assert spread(0.0, training=True) == spread(0.5, training=False) == 0
    assert {m.p for m in network(4, dropout=0.3).modules() if isinstance(m, nn.Dropout)} == {0.3}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_number_of_dropout_layers_is_the_published_one(network):
    dropouts = [m for m in network(4).modules() if isinstance(m, nn.Dropout)]
    assert len(dropouts) == (1 if network is AudioCNN else 2)


def test_audio_cnn_v2_starts_as_published():
    torch.manual_seed(0)
    network = AudioCNNv2(89)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * 9
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
            assert not module.bias.any()
        if isinstance(module, nn.Linear):
            assert float(module.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
            assert not module.bias.any()


@pytest.mark.parametrize("network", NETWORKS)
def test_channels_last_changes_nothing(network):
    torch.manual_seed(0)
    plain = network(4, width=0.5).eval()
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 20, 50)
    torch.testing.assert_close(last(x.contiguous(memory_format=torch.channels_last)), plain(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf")])
def test_a_wrong_width_is_refused(network, width):
    with pytest.raises(UserError, match=r"model\.width is"):
        network(4, width=width)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, float("nan")])
def test_a_wrong_dropout_is_refused(network, dropout):
    with pytest.raises(UserError, match=r"model\.dropout is"):
        network(4, dropout=dropout)
