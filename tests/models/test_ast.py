"""The audio spectrogram transformer against the library's own."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from birdclf.errors import UserError
from birdclf.features.ast import AstFilterbank
from birdclf.models import ast
from birdclf.models.ast import AudioSpectrogramTransformer, fit_positions
from birdclf.models.head import output_layer

transformers = pytest.importorskip("transformers")
SMALL = {"hidden_size": 12, "depth": 2, "heads": 2}


def small(num_classes: int = 4, **knobs: Any) -> AudioSpectrogramTransformer:
    torch.manual_seed(0)
    return AudioSpectrogramTransformer(num_classes, **{**SMALL, **knobs})


def library(num_classes: int = 4, max_length: int = 500, stride: int = 10) -> Any:
    """Return the library's own network of the same size, with weights that use every part."""
    torch.manual_seed(1)
    settings = transformers.ASTConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, max_length=max_length, frequency_stride=stride, time_stride=stride,
        num_labels=num_classes,
    )  # fmt: skip
    network = transformers.ASTForAudioClassification(settings).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    return network


def take(ours: AudioSpectrogramTransformer, theirs: Any) -> None:
    weights = theirs.state_dict()
    output_layer(ours).load_state_dict({k: weights.pop(f"classifier.dense.{k}") for k in ("weight", "bias")})
    ours.network.load_state_dict(weights)


@pytest.mark.parametrize("samples", [80_240, 40_240])
def test_logits_of_a_waveform_are_those_of_the_library(samples: int):
    wave = torch.randn(samples, generator=torch.Generator().manual_seed(2)) * 0.1
    frames = (samples - 400) // 160 + 1
    extract = transformers.ASTFeatureExtractor(max_length=500)
    theirs = library()
    ours = small().eval()
    take(ours, theirs)
    features = AstFilterbank(window_s=frames / 100)
    with torch.no_grad():
        values = torch.as_tensor(extract(wave.numpy(), sampling_rate=16_000, return_tensors="pt")["input_values"])
        expected = theirs(values).logits
        found = ours(features(features.analyse(wave).bands[None, :, :frames]))
        turned = ours(values.transpose(1, 2)[:, None])
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.05


def test_gradients_reach_every_parameter_and_dropout_acts_in_training_only():
    net = small(dropout=0.3, head="cosine")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.3)
    x = torch.randn(2, 1, 128, 400)
    net.train()(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    with torch.no_grad():
        state = torch.get_rng_state()
        first = net(x)
        assert float((net(x) - first).abs().max()) > 0
        torch.set_rng_state(state)
        torch.testing.assert_close(net(x), first, rtol=0, atol=0)
        torch.testing.assert_close(net.eval()(x), net(x), rtol=0, atol=0)
        assert net(x[:1]).shape == (1, 4)


def old_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under the names that published files have."""
    new_to_old = (
        (".layers.", ".encoder.layer."), (".q_proj.", ".attention.query."), (".k_proj.", ".attention.key."),
        (".v_proj.", ".attention.value."), (".o_proj.", ".output.dense."), (".mlp.fc1.", ".intermediate.dense."),
        (".mlp.fc2.", ".output.dense."),
    )  # fmt: skip
    renamed = {}
    for name, value in weights.items():
        for new, old in new_to_old:
            name = name.replace(new, old)
        renamed[name] = value
    return renamed


@pytest.mark.parametrize("way", ["folder", "old names"])
def test_weights_of_the_library_are_loaded_and_the_head_is_new(way: str, tmp_path: Path):
    theirs = library(num_classes=7)
    if way == "folder":
        theirs.save_pretrained(tmp_path)
        place = tmp_path
    else:
        place = tmp_path / "weights.pt"
        torch.save({"model_state_dict": old_names(theirs.state_dict())}, place)
    ours = small(pretrained=str(place))
    expected = theirs.state_dict()
    assert {name for name in expected if not name.startswith("classifier.dense.")} == set(ours.network.state_dict())
    assert all(torch.equal(value, expected[name]) for name, value in ours.network.state_dict().items())
    assert output_layer(ours).out_features == 4


def test_positions_of_longer_windows_are_cut_in_the_middle(tmp_path: Path):
    theirs = library(max_length=1024)  # 12 x 101 patches
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    ours = small(pretrained=str(tmp_path / "weights.pt"))
    assert ours.grid == (12, 49)
    held = theirs.state_dict()[ast.POSITIONS]
    found = ours.network.state_dict()[ast.POSITIONS]
    assert torch.equal(found[:, :2], held[:, :2])
    assert torch.equal(found[:, 2:].unflatten(1, (12, 49)), held[:, 2:].unflatten(1, (12, 101))[:, :, 26:75])


def test_too_few_positions_are_interpolated():
    ramp = torch.arange(5.0).repeat(12, 1)  # equal along frequency, rising along time
    positions = torch.cat([torch.full((1, 2, 1), -9.0), ramp.reshape(1, 60, 1)], dim=1)
    longer = fit_positions(positions, (12, 10))
    assert longer.shape == (1, 122, 1) and bool((longer[:, :2] == -9).all())
    rows = longer[0, 2:, 0].unflatten(0, (12, 10))
    assert bool((rows == rows[:1]).all()) and bool((rows.diff(dim=1) >= 0).all())
    assert rows.min() == 0 and rows.max() == 4
    assert fit_positions(positions, (12, 5)) is positions
    fewer = fit_positions(positions, (8, 5))[0, 2:, 0].unflatten(0, (8, 5))
    torch.testing.assert_close(fewer, ramp[:8])


@pytest.mark.parametrize("held", ast.PUBLISHED_GRIDS, ids=str)
@pytest.mark.parametrize("wanted", [(6, 25), (8, 31), (12, 49), (1, 20)], ids=str)
def test_a_published_grid_is_known_by_its_size(held: tuple[int, int], wanted: tuple[int, int]):
    along = torch.arange(float(held[1])).expand(held)  # equal along frequency: rows taken wrongly would mix columns
    positions = torch.cat([torch.zeros(1, 2, 1), along.reshape(1, -1, 1)], dim=1)
    found = fit_positions(positions, wanted)[0, 2:, 0].unflatten(0, wanted)
    begin = (held[1] - wanted[1]) // 2
    torch.testing.assert_close(found, torch.arange(begin, begin + wanted[1]).float().expand(wanted))


def test_positions_of_an_unknown_grid_are_refused():
    with pytest.raises(UserError, match=r"of 35 patches, which make up neither 8 rows"):
        fit_positions(torch.zeros(1, 37, 1), (8, 31))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"in_channels": 3}, r"takes one channel, not 3\. Use features=ast"),
    ({"hidden_size": 13}, r"multiple of model\.heads=2, such as 14"),
    ({"depth": 0}, r"model\.depth is 0"),
    ({"patch": 200}, r"model\.patch is 200, more than model\.bands=128"),
    ({"dropout": 1.0}, r"model\.dropout"),
    ({"pretrained": "nowhere"}, r"nowhere does not exist"),
    ({"head": "round"}, r"model\.head"),
]


@pytest.mark.parametrize(("knobs", "message"), REFUSED, ids=str)
def test_what_cannot_be_is_refused(knobs: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        small(**knobs)


@pytest.mark.parametrize("shape", [(1, 64, 500), (1, 128, 501), (3, 128, 500)])
def test_unfit_features_are_refused_with_the_remedy(shape: tuple[int, int, int]):
    with pytest.raises(UserError, match=r"Use features=ast, or set model\.bands="):
        small()(torch.zeros(1, *shape))


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'birdclf\[ast\]'"):
        small()
