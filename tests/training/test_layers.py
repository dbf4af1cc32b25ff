import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, AdamW

from birdclf.errors import UserError
from birdclf.models.audio_cnn import AudioCNN
from birdclf.models.audio_cnn_v2 import AudioCNNv2
from birdclf.training.optim.layers import Layers, named_rates
from birdclf.training.optim.schedules import constant, plateau, warmup_cosine, warmup_step

K = 3


def network(kind: type[nn.Module] = AudioCNN) -> nn.Module:
    torch.manual_seed(0)
    return kind(num_classes=K, width=0.1)


def optimizer_of(layers: Layers, net: nn.Module, make=lambda groups: SGD(groups, lr=0.1)) -> torch.optim.Optimizer:
    layers.apply_freeze(net, K)
    return layers.optimizer(make, net, K)


def rate_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> float:
    (rate,) = {g["lr"] for g in optimizer.param_groups if any(parameter is p for p in g["params"])}
    return rate


def test_without_settings_the_optimizer_is_the_plain_one():
    net = network()
    (group,) = optimizer_of(Layers(), net).param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in net.parameters()]
    assert group.keys() == SGD(net.parameters(), lr=0.1).param_groups[0].keys()


def test_the_first_pattern_that_fits_counts_and_the_rest_has_the_base_rate():
    net = network()
    optimizer = optimizer_of(Layers(rates={"features.0": 0.1, "*.norm.*": 0.5, "output": 3}), net)
    assert rate_of(optimizer, net.features[0].norm.weight) == pytest.approx(0.01)  # the first, not the second
    assert rate_of(optimizer, net.features[1].norm.weight) == pytest.approx(0.05)
    assert rate_of(optimizer, net.features[1].conv.weight) == 0.1
    assert rate_of(optimizer, net.classifier[4].bias) == pytest.approx(0.3)
    rates = {"lr": 0.1, "lr/features.0": 0.01, "lr/*.norm.*": 0.05, "lr/output": 0.3}
    assert named_rates(optimizer) == pytest.approx(rates)


def test_a_prefix_ends_at_a_dot():
    net = nn.Sequential(*[nn.Linear(2, 2) for _ in range(11)], nn.Linear(2, K))
    optimizer = optimizer_of(Layers(rates={"1": 2}), net)
    assert rate_of(optimizer, net[1].weight) == 0.2 and rate_of(optimizer, net[10].weight) == 0.1


@given(
    st.sets(st.sampled_from(["features", "classifier", "*.conv.*", "*.bias", "output", "features.3.norm"])), st.data()
)
def test_every_parameter_that_learns_is_in_one_group(patterns, data):
    net = network()
    rates = {pattern: data.draw(st.floats(0.01, 10)) for pattern in sorted(patterns)}
    layers = Layers(rates=rates, freeze=["features.0"], decay=data.draw(st.sampled_from(["all", "matrices"])))
    try:
        optimizer = optimizer_of(layers, net, lambda groups: AdamW(groups, lr=0.1))
    except UserError as error:
        assert "pattern before it" in str(error)
        return
    seen = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(seen) == len(set(seen))
    assert set(seen) == {id(p) for p in net.parameters() if p.requires_grad}
    assert all(isinstance(group, dict) for group in optimizer.param_groups)


def test_weight_decay_of_matrices_alone():
    net = network()
    optimizer = optimizer_of(Layers(decay="matrices"), net, lambda groups: AdamW(groups, lr=0.1, weight_decay=0.3))
    for group in optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.3}
    assert named_rates(optimizer) == {"lr": 0.1}


def test_frozen_layers_stay_and_so_do_the_statistics_of_their_norms():
    net = network()
    layers = Layers(freeze=["features"])
    norms = layers.apply_freeze(net, K)
    assert len(norms) == 6 and not any(norm.training for norm in norms)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = layers.optimizer(lambda groups: SGD(groups, lr=0.1), net, K)
    net.train()
    for norm in norms:
        norm.eval()
    net(torch.randn(4, 3, 20, 40)).square().mean().backward()
    optimizer.step()
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"classifier.{i}.{name}" for i in (1, 4) for name in ("weight", "bias")}


@pytest.mark.parametrize("kind", [AudioCNN, AudioCNNv2])
def test_all_but_the_output_layer(kind):
    net = network(kind)
    norms = Layers(freeze=["all_but_output"]).apply_freeze(net, K)
    learning = [name for name, p in net.named_parameters() if p.requires_grad]
    last = [name for name, _ in net.named_parameters()][-2:]
    assert learning == last and len(norms) == len([m for m in net.modules() if isinstance(m, nn.BatchNorm2d)])


def test_statistics_of_frozen_norms_can_be_learnt():
    assert Layers(freeze=["features"], norm_stats="learnt").apply_freeze(network(), K) == ()


def test_a_norm_without_weights_is_frozen_with_its_layer():
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4, affine=False)), nn.Linear(4, K))
    assert Layers(freeze=["0"]).apply_freeze(net, K) == (net[0][1],)


@pytest.mark.parametrize("channels", [16, 32])
def test_the_gradient_of_a_convolution_that_learns_does_not_depend_on_frozen_ones(channels):
    """Channels-last float32 of these widths takes the way of products where it is quicker."""

    def gradient(freeze: tuple[str, ...]) -> torch.Tensor:
        torch.manual_seed(0)
        net = AudioCNN(num_classes=K, width=channels / 32).eval().to(memory_format=torch.channels_last)
        Layers(freeze=freeze).apply_freeze(net, K)
        x = torch.randn(2, 3, 8, 40, generator=torch.Generator().manual_seed(1))
        net(x.contiguous(memory_format=torch.channels_last)).logsumexp(1).mean().backward()
        assert net.features[1].conv.weight.grad is None or not freeze
        return net.features[0].conv.weight.grad

    torch.testing.assert_close(gradient(("features.1", "features.3.conv.bias")), gradient(()))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"freeze": ["feature"]}, "Near are features"),
        ({"freeze": "features"}, "must be a list"),
        ({"freeze": ["features", "classifier"]}, "nothing is left to learn"),
        ({"rates": {"clasifier": 2}}, "Near are classifier"),
        ({"rates": {"features.0": 2}, "freeze": ["features"]}, "is frozen"),
        ({"rates": {"features": 2, "features.0": 3}}, "pattern before it"),
        ({"rates": {"features": 0}}, "above 0"),
        ({"rates": {"features": float("inf")}}, "above 0"),
        ({"rates": {"features": True}}, "above 0"),
        ({"norm_stats": "learnt"}, "no batch norm is frozen"),
        ({"norm_stats": "still"}, "frozen or learnt"),
        ({"decay": "none"}, "all or matrices"),
        ({"decay": "matrices"}, "none to leave out"),
    ],
)
def test_what_would_not_act_is_refused(settings, said):
    with pytest.raises(UserError, match=said):
        optimizer_of(Layers(**settings), network())


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [
        (constant, {}),
        (warmup_step, {"step_epochs": 2}),
        (warmup_cosine, {"max_epochs": 20}),
        (plateau, {"mode": "max", "patience": 0, "min_lr": 1e-3}),
    ],
)
def test_every_schedule_keeps_the_proportions_of_the_groups(schedule, settings):
    optimizer = optimizer_of(Layers(rates={"features": 1e-3, "output": 10}), network())
    scheduler = schedule(optimizer, **settings)
    lowest = []
    for _ in range(30):
        rates = named_rates(optimizer)
        assert rates["lr/features"] == pytest.approx(1e-3 * rates["lr"], rel=1e-9)
        assert rates["lr/output"] == pytest.approx(10 * rates["lr"], rel=1e-9)
        lowest.append(rates["lr"])
        optimizer.step()
        scheduler.step(*[0.5] * (schedule is plateau))
    assert schedule is constant or len(set(lowest)) > 1
    assert schedule is not plateau or min(lowest) == pytest.approx(1e-3)
