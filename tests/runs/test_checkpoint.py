"""A checkpoint is enough to predict, and nothing in it is executed."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from birdclf.errors import UserError
from birdclf.features.log_mel import LogMel
from birdclf.features.mfcc import MFCCStack
from birdclf.features.pcen import PCEN
from birdclf.features.representation import Representation
from birdclf.models.audio_cnn import AudioCNN
from birdclf.posthoc.base import Adjustment
from birdclf.posthoc.energy import Rejection
from birdclf.posthoc.tau_norm import TauNormalised
from birdclf.report.sections.gallery import class_activation
from birdclf.runs.checkpoint import load_run

CLASSES = ["robin", "tit", "wren"]


def content() -> dict[str, Any]:
    """Return what a checkpoint of a tiny network holds."""
    torch.manual_seed(0)
    features, network = MFCCStack(window_s=1.0), AudioCNN(len(CLASSES), width=0.1)
    features.mean.fill_(2.5)
    weights = {f"network.{k}": v for k, v in network.state_dict().items()}
    weights |= {f"features.{k}": v for k, v in features.state_dict().items()}
    config = {
        "features": {"_target_": "birdclf.features.mfcc.MFCCStack", "window_s": 1.0},
        "model": {"_target_": "birdclf.models.audio_cnn.AudioCNN", "width": 0.1},
        "channels_last": True,
    }
    own = {"format": 1, "classes": CLASSES, "features": features.settings, "config": config, "temperature": 1.5}
    loss = {"loss.weight": torch.ones(3)}  # of training, of no use here
    return {"epoch": 4, "state_dict": weights | loss, "birdclf": own}


def saved(folder: Path, thing: Any) -> Path:
    (folder / "checkpoints").mkdir()
    torch.save(thing, folder / "checkpoints" / "best.ckpt")
    return folder


def test_the_file_alone_gives_the_classifier(tmp_path: Path):
    loaded = load_run(saved(tmp_path, content()))
    assert loaded.classes == ("robin", "tit", "wren") and loaded.temperature == 1.5 and loaded.epoch == 5
    assert loaded.config["model"]["width"] == 0.1
    assert not loaded.predictor.training and not loaded.predictor.network.training
    bands = torch.randn(2, 20, 100, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    features, network = MFCCStack(window_s=1.0), AudioCNN(3, width=0.1)
    features.mean.fill_(2.5)
    with torch.no_grad():
        torch.testing.assert_close(loaded.predictor(bands), network.eval()(features(bands)))


def test_a_checkpoint_from_before_channels_could_be_chosen(tmp_path: Path):
    thing, bands = content(), torch.randn(2, 20, 100, generator=torch.Generator().manual_seed(1))
    (tmp_path / "new").mkdir()
    new = load_run(saved(tmp_path / "new", thing))
    del thing["birdclf"]["features"]["channels"]
    old = load_run(saved(tmp_path, thing))
    assert old.predictor.features.settings == new.predictor.features.settings
    with torch.no_grad():
        torch.testing.assert_close(old.predictor(bands), new.predictor(bands), rtol=0, atol=0)


@pytest.mark.parametrize(
    "features",
    [LogMel(window_s=1.0, n_mels=64), PCEN(window_s=1.0, channels=["delta", "static"]), MFCCStack(channels=["delta2"])],
    ids=lambda features: type(features).__name__,
)
def test_every_representation_comes_back_from_a_file(features: Representation, tmp_path: Path):
    thing = content()
    torch.nn.init.uniform_(features.mean)
    network = AudioCNN(3, in_channels=len(features.channels), width=0.1)
    weights = {f"network.{k}": v for k, v in network.state_dict().items()}
    thing["state_dict"] = weights | {f"features.{k}": v for k, v in features.state_dict().items()}
    thing["birdclf"]["features"] = dict(features.settings)
    target = f"{type(features).__module__}.{type(features).__name__}"
    thing["birdclf"]["config"]["features"] = {"_target_": target}
    loaded = load_run(saved(tmp_path, thing)).predictor
    bands = torch.rand(2, features.n_bands, features.frames, generator=torch.Generator().manual_seed(1))
    assert loaded.features.fingerprint() == features.fingerprint()
    with torch.no_grad():
        torch.testing.assert_close(loaded(bands), network.eval()(features(bands)))
        activation = class_activation(loaded, bands[:1], target=1)
    assert activation is not None and activation.shape == (features.frames,)


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ({"tau": 1.5, "prior": [0.5, 0.3, 0.2]}, Adjustment(1.5, (0.5, 0.3, 0.2))),
        ({"tau": 0.5, "lengths": [1.0, 0.0, 3.0], "bias": [0.0, -1.0, 2.0]}, TauNormalised(0.5, (1, 0, 3), (0, -1, 2))),
        ({"threshold": -1.5, "accept": 0.9}, Rejection(-1.5, 0.9)),
    ],
)
def test_what_adjusts_logits_is_kept(tmp_path: Path, kept: dict[str, Any], expected: Any):
    thing = content()
    thing["birdclf"]["adjustment"] = kept
    assert load_run(saved(tmp_path, thing)).adjustment == expected


@pytest.mark.parametrize(
    "kept",
    [
        {"tau": 1.5, "lengths": [1.0, 2.0, 3.0], "bias": [0.0, 0.0, 0.0]},
        {"tau": 0.5, "lengths": [1.0, 2.0], "bias": [0.0, 0.0]},
        {"tau": 0.5, "lengths": [1.0, 2.0, float("nan")], "bias": [0.0, 0.0, 0.0]},
        {"tau": 0.5, "lengths": [1.0, 2.0, -3.0], "bias": [0.0, 0.0, 0.0]},
        {"tau": 0.5, "prior": [0.5, 0.5, 0.0]},
        {"tau": 0.5, "prior": []},
        {"tau": True, "prior": [0.5, 0.3, 0.2]},
        {"threshold": float("inf"), "accept": 0.9},
        {"threshold": 1.0, "accept": 1.0},
        {"threshold": 1.0},
        {},
        [1.0],
    ],
)
def test_an_adjustment_that_is_none_is_refused(tmp_path: Path, kept: Any):
    thing = content()
    thing["birdclf"]["adjustment"] = kept
    with pytest.raises(UserError, match=r"birdclf\.adjustment is no tau"):
        load_run(saved(tmp_path, thing))


def test_last_is_another_file_and_has_no_temperature(tmp_path: Path):
    thing = content()
    del thing["birdclf"]["temperature"]
    saved(tmp_path, thing)
    with pytest.raises(UserError, match="last.ckpt does not exist"):
        load_run(tmp_path, "last")
    (tmp_path / "checkpoints" / "best.ckpt").rename(tmp_path / "checkpoints" / "last.ckpt")
    assert load_run(tmp_path, "last").temperature is None


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("how", ["torch", "plain pickle", "inside the weights"])
def test_a_pickled_object_is_refused_and_never_executed(how: str, tmp_path: Path):
    trace = tmp_path / "executed"
    if how == "inside the weights":
        saved(tmp_path, content() | {"hyper_parameters": {"_instantiator": Malicious(trace)}})
    else:
        saved(tmp_path, Malicious(trace))
    file = tmp_path / "checkpoints" / "best.ckpt"
    if how == "plain pickle":
        file.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(UserError, match="refused, and nothing of it was executed"):
        load_run(tmp_path)
    assert not trace.exists()
    if how == "torch":
        with zipfile.ZipFile(file) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
            pickle.loads(archive.read(name))
        assert trace.exists(), "the file was harmless: the test proves nothing"


@pytest.mark.parametrize("data", [b"", b"no checkpoint", b"PK\x03\x04"])
def test_a_file_that_is_no_checkpoint(data: bytes, tmp_path: Path):
    saved(tmp_path, {})
    (tmp_path / "checkpoints" / "best.ckpt").write_bytes(data)
    with pytest.raises(UserError, match="best.ckpt (cannot be read|holds more)"):
        load_run(tmp_path)


def test_a_file_that_was_cut_short(tmp_path: Path):
    file = saved(tmp_path, content()) / "checkpoints" / "best.ckpt"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(UserError, match="cut short"):
        load_run(tmp_path)


CHANGES = [
    (("birdclf",), None, "lacks birdclf"),
    (("state_dict",), None, "lacks state_dict"),
    (("birdclf", "format"), 2, "format 2.*Update birdclf"),
    (("birdclf", "classes"), None, "birdclf.classes is missing"),
    (("birdclf", "classes"), ["robin", "wren"], "2 names, but the network has 3 outputs"),
    (("birdclf", "classes"), [*CLASSES, "owl"], "4 names, but the network has 3 outputs"),
    (("birdclf", "config", "model"), None, "model._target_ is missing"),
    (("birdclf", "config", "model", "width"), 0.2, "not those of its own configuration"),
    (("birdclf", "config", "model", "width"), -1, "model of the checkpoint cannot be built.*model.width"),
    (("birdclf", "config", "model", "depth"), 3, "model of the checkpoint cannot be built.*depth"),
    (("birdclf", "features", "hop"), 0, "features of the checkpoint cannot be built.*hop"),
    (("state_dict", "features.mean"), None, "features.mean"),
]


@pytest.mark.parametrize(("place", "value", "words"), CHANGES, ids=lambda part: str(part)[:30])
def test_what_does_not_fit_together_is_reported(place: tuple[str, ...], value: Any, words: str, tmp_path: Path):
    thing = content()
    node = thing
    for key in place[:-1]:
        node = node[key]
    if value is None:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    with pytest.raises(UserError, match=words) as raised:
        load_run(saved(tmp_path, thing))
    assert str(raised.value)


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of somebody else's, which leaves a trace when it is imported."""
    trace = tmp_path / "imported"
    (tmp_path / "foreign_package.py").write_text(
        f"import os\nos.makedirs({str(trace)!r}, exist_ok=True)\n"
        "from birdclf.models.audio_cnn import AudioCNN\nclass TheirCNN(AudioCNN):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return trace


def named(target: str, folder: Path, **arguments: Any) -> Path:
    thing = content()
    thing["birdclf"]["config"]["model"] |= {"_target_": target, **arguments}
    return saved(folder, thing)


def test_a_network_of_another_package_is_run_only_if_trusted(foreign: Path, tmp_path: Path):
    named("foreign_package.TheirCNN", tmp_path)
    with pytest.raises(UserError, match="--trust foreign_package"):
        load_run(tmp_path)
    assert not foreign.exists()
    loaded = load_run(tmp_path, trusted=("foreign_package",))
    assert type(loaded.predictor.network).__name__ == "TheirCNN" and isinstance(loaded.predictor.network, nn.Module)


@pytest.mark.parametrize(
    "target",
    [
        "os.mkdir",
        "birdclf.cli.os.mkdir",
        "birdclf.cli.main",
        "birdclf.features.mfcc.nn.Linear",
        "birdclf.features.mfcc.torch",
        "birdclf.errors.UserError",
        "birdclf.no_such.Network",
        "birdclf.models.audio_cnn.NoSuch",
        "birdclf",
    ],
)
def test_a_target_that_is_no_network_of_birdclf_is_refused(target: str, tmp_path: Path):
    with pytest.raises(UserError, match=r"model\._target_ of the checkpoint is"):
        load_run(named(target, tmp_path))


@pytest.mark.parametrize(
    "arguments", [{"dropout": {"_target_": "os.mkdir", "path": "made"}}, {"dropout": [{"_target_": "os.getcwd"}]}]
)
def test_nothing_is_built_inside_the_arguments(arguments: dict[str, Any], tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="only plain values"):
        load_run(named("birdclf.models.audio_cnn.AudioCNN", tmp_path, **arguments))
    assert not (tmp_path / "made").exists()


def test_the_features_are_ours_as_well(tmp_path: Path):
    thing = content()
    thing["birdclf"]["config"]["features"]["_target_"] = "birdclf.models.audio_cnn.AudioCNN"
    with pytest.raises(UserError, match="no Representation"):
        load_run(saved(tmp_path, thing))


@pytest.mark.parametrize("given", [True, "/etc/passwd", "https://example.org/weights.pt"])
def test_weights_that_training_began_with_are_not_looked_for_again(
    given: bool | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("timm")
    from birdclf.models import image_network

    def opened(*words: object) -> None:
        pytest.fail(f"opened or fetched: {words}")

    monkeypatch.setattr(image_network, "from_hub", opened)
    monkeypatch.setattr(image_network, "read_weights", opened)
    thing = content()
    knobs = {"name": "test_resnet", "stem_stride": [1, 2]}
    network = image_network.ImageNetwork(len(CLASSES), **knobs)
    thing["birdclf"]["config"]["model"] = {
        "_target_": "birdclf.models.image_network.ImageNetwork",
        "pretrained": given,
        **knobs,
    }
    weights = {name: value for name, value in thing["state_dict"].items() if not name.startswith("network.")}
    thing["state_dict"] = weights | {f"network.{name}": value for name, value in network.state_dict().items()}
    loaded = load_run(saved(tmp_path, thing))
    found = loaded.predictor.network.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in network.state_dict().items())


def test_a_pointer_of_git_lfs_is_called_that(tmp_path: Path):
    file = tmp_path / "checkpoints" / "best.ckpt"
    file.parent.mkdir()
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(UserError, match=r"best\.ckpt is a Git LFS pointer, not the file itself.*git lfs pull"):
        load_run(tmp_path)
