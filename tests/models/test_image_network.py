"""Networks of timm behind our own head."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from birdclf.config import conf_dir
from birdclf.errors import UserError
from birdclf.models import pretrained
from birdclf.models.head import CosineLinear, output_layer
from birdclf.models.image_network import ImageNetwork

timm = pytest.importorskip("timm")
NAMES = ("test_efficientnet", "test_resnet", "test_convnext")
STRIDE = {"test_convnext": (2, 4)}


def tiny(name: str = "test_resnet", **knobs: Any) -> ImageNetwork:
    torch.manual_seed(0)
    knobs.setdefault("stem_stride", STRIDE.get(name, (1, 2)))
    return ImageNetwork(4, name=name, **knobs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(3, 20, 500), (1, 128, 500), (2, 64, 100)])
def test_any_channels_and_sizes_give_logits(name: str, shape: tuple[int, int, int]):
    net = tiny(name, in_channels=shape[0]).eval()
    logits = net(torch.randn(2, *shape))
    assert logits.shape == (2, 4) and logits.isfinite().all()
    assert net(torch.randn(1, *shape)).shape == (1, 4)


@pytest.mark.parametrize("name", NAMES)
def test_the_logits_are_those_of_timm_with_its_own_head(name: str):
    theirs = timm.create_model(name, num_classes=4, in_chans=3).eval()
    ours = tiny(name, stem_stride=None, dropout=0.0).eval()
    weights = theirs.state_dict()
    (head,) = [theirs.pretrained_cfg["classifier"]]
    ours.backbone.load_state_dict({k: v for k, v in weights.items() if not k.startswith(f"{head}.")})
    output_layer(ours).load_state_dict({k: weights[f"{head}.{k}"] for k in ("weight", "bias")})
    x = torch.randn(2, 3, 64, 128)
    torch.testing.assert_close(ours(x), theirs(x))


def test_a_smaller_stride_keeps_the_bands():
    heights = []
    for stride in (None, (1, 2)):
        net = tiny("test_efficientnet", stem_stride=stride)
        net.backbone.conv_stem.register_forward_hook(lambda _, __, y: heights.append(tuple(y.shape[-2:])))
        net.eval()(torch.randn(1, 3, 20, 50))
    assert heights == [(10, 25), (20, 25)]


def test_size_is_what_the_network_sees():
    net = tiny(size=(64, 96))
    seen: list[Tensor] = []
    net.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 3, 20, 500)
    net.eval()(x)
    assert seen[0].shape == (2, 3, 64, 96)
    rows = net.eval()(x[:, :, :, :1].expand(-1, -1, -1, 500))  # constant in time stays constant
    assert rows.isfinite().all()
    torch.testing.assert_close(seen[1], seen[1][..., :1].expand_as(seen[1]), rtol=1e-4, atol=1e-5)


def test_a_network_of_fixed_size_asks_for_it():
    with pytest.raises(UserError, match=r"model\.size=\[64,512\]"):
        ImageNetwork(4, name="test_vit")
    net = ImageNetwork(4, name="test_vit", size=[64, 128]).eval()
    assert net(torch.randn(2, 3, 20, 500)).shape == (2, 4)
    with pytest.raises(UserError, match="lets none be chosen"):
        ImageNetwork(4, name="test_vit", size=[64, 128], stem_stride=[1, 2])


SKIPPING = [("test_resnet", {"drop_path": 0.5}), ("test_convnext", {"drop_path": 0.5})]


@pytest.mark.parametrize(("name", "knobs"), [*((name, {"dropout": 0.5}) for name in NAMES), *SKIPPING])
def test_dropout_and_drop_path_act_in_training_only(name: str, knobs: dict[str, float]):
    net = tiny(name, **{"dropout": 0.0, **knobs})
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.0
            nn.init.ones_(module.weight)  # some branches begin at 0, so that skipping them would change nothing
    x = torch.randn(4, 3, 20, 100)
    with torch.no_grad():
        assert float((net.train()(x) - net(x)).abs().max()) > 0
        torch.testing.assert_close(net.eval()(x), net(x), rtol=0, atol=0)
        state = torch.get_rng_state()  # the only random state is torch's, so a run goes on as it would have
        first = net.train()(x)
        torch.set_rng_state(state)
        torch.testing.assert_close(net(x), first, rtol=0, atol=0)
        still = tiny(name, dropout=0.0).train()
        assert float((still(x) - still(x)).abs().max()) == 0


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str):
    net = tiny(name, head="cosine").train()
    assert isinstance(output_layer(net), CosineLinear)
    assert output_layer(net).out_features == 4
    net(torch.randn(3, 3, 20, 100)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "resnet_18"}, r"model\.name is 'resnet_18'.*Did you mean .*resnet18"),
    ({"name": "hf-hub:timm/resnet18"}, r"timm does not know"),
    ({"name": "local-dir:/tmp"}, r"timm does not know"),
    ({"name": "resnet18.nobody"}, r"Invalid pretrained tag"),
    ({"name": "vgg11", "drop_path": 0.1}, r"model\.drop_path is set, but vgg11"),
    ({"drop_path": 1.0}, r"model\.drop_path is 1\.0"),
    ({"drop_path": -0.1}, r"model\.drop_path is -0\.1"),
    ({"dropout": 1.0}, r"model\.dropout is 1\.0"),
    ({"stem_stride": 2}, r"model\.stem_stride is 2; it must be two whole numbers"),
    ({"stem_stride": [1, 0]}, r"two whole numbers from 1"),
    ({"stem_stride": [1, 9]}, r"would skip part of the features"),
    ({"size": [64]}, r"model\.size is \[64\]"),
    ({"pretrained": 3}, r"model\.pretrained is 3"),
    ({"pretrained": ""}, r"model\.pretrained is ''"),
    ({"pretrained": "nowhere.pt"}, r"nowhere\.pt does not exist"),
    ({"head": "square"}, r"model\.head"),
]


@pytest.mark.parametrize(("knobs", "message"), REFUSED, ids=str)
def test_what_cannot_be_is_refused(knobs: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        tiny(**knobs)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'birdclf\[timm\]'"):
        ImageNetwork(4)


# Weights from elsewhere


def save_safely(weights: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(weights, path)


WAYS = {
    "bare.pt": torch.save,
    "nested.pt": lambda weights, path: torch.save({"epoch": 3, "model_state_dict": weights}, path),
    "trainer.ckpt": lambda weights, path: torch.save(
        {"state_dict": {f"network.backbone.{name}": value for name, value in weights.items()}}, path
    ),
    "parallel.pth": lambda weights, path: torch.save({f"module.{name}": v for name, v in weights.items()}, path),
    "model.safetensors": save_safely,
}


@pytest.mark.parametrize("file", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_weights_of_a_file_are_loaded_and_the_head_is_new(name: str, file: str, tmp_path: Path):
    torch.manual_seed(5)
    theirs = timm.create_model(name)  # with a head of 1000 classes
    WAYS[file](theirs.state_dict(), tmp_path / file)
    ours = tiny(name, pretrained=str(tmp_path / file))
    expected = theirs.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in ours.backbone.state_dict().items())
    assert output_layer(ours).out_features == 4
    if file == "model.safetensors":
        assert torch.equal(next(tiny(name, pretrained=str(tmp_path)).backbone.parameters()), next(theirs.parameters()))


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_first_convolution_is_adapted_to_the_channels(name: str, channels: int, tmp_path: Path):
    theirs = timm.create_model(name)
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    first = theirs.pretrained_cfg["first_conv"]
    found = tiny(name, in_channels=channels, pretrained=str(tmp_path / "weights.pt")).backbone.get_submodule(first)
    colours = theirs.get_submodule(first).weight
    assert torch.equal(found.weight, timm.models.adapt_input_conv(channels, colours))
    if channels == 1:  # the sound in one channel is what grey is in three
        assert torch.equal(found.weight, colours.sum(dim=1, keepdim=True))


def test_weights_of_another_network_are_refused(tmp_path: Path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"not those of this model: .* is missing, \d+ such differences"):
        tiny("test_efficientnet", pretrained=str(tmp_path / "weights.pt"))


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, ("executed",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Trap(), "opening it could run code"),
        ({"state_dict": {}}, "it is empty"),
        ({"epoch": 3}, "'epoch' in it is no tensor"),
        ([torch.zeros(1)], "holds a list"),
    ],
)
def test_files_that_hold_no_weights_are_refused(content: Any, message: str, tmp_path: Path):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=message):
        tiny(pretrained=str(tmp_path / "weights.pt"))


@pytest.mark.parametrize("name", ["cut.pt", "cut.safetensors"])
def test_a_file_that_is_cut_short_is_refused(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(UserError, match=f"{name} cannot be read as weights"):
        tiny(pretrained=str(tmp_path / name))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Yield a port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []
        threading.Thread(target=lambda: held.append(server.accept()[0]), daemon=True).start()
        yield server.getsockname()[1]
        for connection in held:
            connection.close()


@pytest.mark.parametrize("endpoint", ["closed", "silent"])
def test_a_hub_out_of_reach_is_reported_within_seconds(
    endpoint: str, silent_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hub = pytest.importorskip("huggingface_hub")
    port = silent_port if endpoint == "silent" else 9
    monkeypatch.setattr(hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(pretrained, "PATIENCE_S", 0.5)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"cannot be had from the Hugging Face hub.*model\.pretrained=FILE"):
        tiny(pretrained=True)
    assert time.monotonic() - began < 10


def test_a_file_of_the_hub_goes_the_way_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    theirs = timm.create_model("test_resnet")
    save_safely(theirs.state_dict(), tmp_path / "model.safetensors")
    asked = []
    monkeypatch.setattr(
        "birdclf.models.image_network.from_hub", lambda *words: asked.append(words) or tmp_path / "model.safetensors"
    )
    ours = tiny(pretrained=True, in_channels=1)
    assert asked == [("timm/test_resnet.r160_in1k",)]
    first = theirs.pretrained_cfg["first_conv"]
    colours = theirs.get_submodule(first).weight
    torch.testing.assert_close(ours.backbone.get_submodule(first).weight, colours.sum(dim=1, keepdim=True))


def test_a_list_of_the_configuration_will_do():
    node = OmegaConf.create({"_target_": "birdclf.models.image_network.ImageNetwork", "name": "test_resnet"})
    node.stem_stride, node.size = [1, 2], [32, 64]
    assert instantiate(node, num_classes=3, in_channels=1).eval()(torch.randn(1, 1, 20, 90)).shape == (1, 3)


def test_images_of_time_and_frequency(tmp_path: Path):
    torch.manual_seed(5)
    theirs = timm.create_model("test_efficientnet", in_chans=1, num_classes=0).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    knobs = {"in_channels": 1, "stem_stride": None, "pretrained": str(tmp_path / "weights.pt")}
    x = torch.randn(2, 1, 128, 500)
    seen: list[Tensor] = []
    for time_first in (True, False):
        ours = tiny("test_efficientnet", time_first=time_first, **knobs).eval()
        output_layer(ours).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        ours(x)
    torch.testing.assert_close(seen[0], theirs(x.transpose(2, 3)))
    torch.testing.assert_close(seen[1], theirs(x))
    assert torch.cosine_similarity(seen[0], theirs(x.transpose(2, 3))).min() > 1 - 1e-6
    assert torch.cosine_similarity(*seen).min() < 1 - 1e-4


def test_strides_and_sizes_are_of_frequency_and_time_either_way():
    net = tiny("test_efficientnet", stem_stride=[1, 2], time_first=True)
    assert net.backbone.conv_stem.stride == (2, 1)
    fixed = ImageNetwork(4, name="test_vit", size=[64, 128], time_first=True)
    assert fixed.backbone.patch_embed.img_size == (128, 64)
    assert fixed.eval()(torch.randn(2, 3, 20, 500)).shape == (2, 4)


def test_what_became_of_a_files_tensors_is_listed(tmp_path: Path):
    theirs = timm.create_model("test_efficientnet").state_dict()
    torch.save({f"module.{name}": value for name, value in theirs.items()}, tmp_path / "weights.pt")
    loaded = tiny("test_efficientnet", in_channels=1, pretrained=str(tmp_path / "weights.pt")).loaded
    assert set(loaded) == {f"module.{name}" for name in theirs}
    others = {name: outcome for name, outcome in loaded.items() if outcome != "fitted"}
    assert others == {
        "module.conv_stem.weight": "fitted: adapted from 3 channels to 1",
        "module.classifier.weight": "not used",
        "module.classifier.bias": "not used",
    }
    assert tiny("test_efficientnet").loaded == {}


@pytest.mark.slow
def test_weights_in_the_layout_of_a_port_of_perch_give_its_embeddings(tmp_path: Path):
    node = OmegaConf.load(conf_dir() / "model" / "efficientnet_b3.yaml")
    torch.manual_seed(5)
    theirs = timm.create_model("tf_efficientnet_b3", in_chans=1, num_classes=0).eval()
    save_safely(theirs.state_dict(), tmp_path / "perch.safetensors")
    node.pretrained = str(tmp_path / "perch.safetensors")
    ours = instantiate(node, num_classes=3, in_channels=1).eval()
    assert set(ours.loaded.values()) == {"fitted"} and len(ours.loaded) == len(theirs.state_dict())
    seen: list[Tensor] = []
    output_layer(ours).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(1, 1, 128, 500)
    with torch.no_grad():
        assert ours(x).shape == (1, 3) and seen[0].shape == (1, 1536)
        torch.testing.assert_close(seen[0], theirs(x.transpose(2, 3)))
