"""Every representation and every network, found in conf/, gives as a file what it gives in PyTorch."""

import json
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_networks import smaller
from torch import nn

from birdclf.audio.mixing import Mix
from birdclf.config import conf_dir
from birdclf.detection.classifier import METADATA, InputSpec, OnnxClassifier
from birdclf.errors import UserError
from birdclf.export.formats import Program, metadata_of, require_onnx, write_onnx, write_program
from birdclf.features.mfcc import MFCCStack
from birdclf.features.representation import Representation
from birdclf.models.audio_cnn import AudioCNN
from birdclf.posthoc.base import Adjustment
from birdclf.posthoc.energy import Energy
from birdclf.runs.checkpoint import LoadedRun
from birdclf.runs.waveforms import WaveformClassifier

CLASSES = ("Alauda arvensis", "Bubo bubo", 'Kauz "Ümläut" <b>', "Pica pica", "Turdus merula")

# A frozen network is not inside the file, nor are probes, which take its vectors.
FEATURES, MODELS = (
    sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if left_out not in path.read_text())
    for group, left_out in (("features", "birdclf.features.embedders."), ("model", "_probe"))
)
SMALL = ("audio_cnn", "audio_cnn_v2")
networks = [pytest.param(name, marks=() if name == "audio_cnn_v2" else pytest.mark.slow) for name in MODELS]
SEEN_ELSEWHERE = ("mfcc", "log_mel", "log_mel_delta", "perch_mel", "ast")  # with the network, and with more in pcen
representations = [pytest.param(name, marks=pytest.mark.slow if name in SEEN_ELSEWHERE else ()) for name in FEATURES]


def features_of(name: str, window_s: float) -> Representation:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = compose("train", overrides=[f"features={name}", f"features.window_s={window_s}"]).features
    features = instantiate(node)
    assert isinstance(features, Representation)
    return features


def loaded_run(features: Representation, network: nn.Module) -> LoadedRun:
    """Return a run with whatever a checkpoint may hold: fitted features, norms, an adjustment and a temperature."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        features.mean.copy_(torch.randn(features.mean.shape, generator=generator))
        features.std.copy_(10 + torch.rand(features.std.shape, generator=generator))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
    prior = Adjustment(0.7, (0.5, 0.2, 0.15, 0.1, 0.05))
    return LoadedRun(network.eval(), features.eval(), True, CLASSES, 1.7, 3, {}, prior)


def hearing_of(features: Representation) -> InputSpec:
    samples = features.frames * features.hop
    return InputSpec(CLASSES, features.sample_rate_hz, samples, features.padding, Mix("left", "remove", "peak"))


def sound(features: Representation, windows: int) -> np.ndarray:
    t = np.arange(features.frames * features.hop) / features.sample_rate_hz
    hz = np.linspace(700, 5000, windows)[:, None]
    noise = np.random.default_rng(0).standard_normal((windows, len(t)))
    return (0.3 * np.sin(2 * np.pi * hz * t) * (t > 0.1) + 0.01 * noise).astype(np.float32)


def check(features: Representation, network: nn.Module, folder: Path, also_torch: bool = True) -> None:
    """Write both files and hold them to the module itself, for batches of one, of three and of none but zeros."""
    loaded = loaded_run(features, network)
    input_spec = hearing_of(features)
    expected = []
    batches = [sound(features, 1), sound(features, 3), np.zeros_like(sound(features, 2))]
    with torch.inference_mode():
        module = WaveformClassifier(loaded)
        expected = [[answer.numpy().copy() for answer in module(torch.from_numpy(batch))] for batch in batches]
    write_onnx(deepcopy(loaded), metadata_of(loaded, input_spec), folder / "model.onnx")
    exported = [OnnxClassifier(folder / "model.onnx", "cpu")]
    assert exported[0].input_spec == input_spec
    if also_torch:
        write_program(loaded, metadata_of(loaded, input_spec), folder / "model.pt2")
        exported.append(Program(folder / "model.pt2"))
    for answers in exported:
        for batch, (probabilities, embeddings) in zip(batches, expected, strict=True):
            p, e = answers(batch)
            assert p.shape == (len(batch), len(CLASSES)) and p.dtype == e.dtype == np.float32
            np.testing.assert_allclose(p, probabilities, atol=2e-5, rtol=0)
            np.testing.assert_allclose(e, embeddings, atol=1e-3 * max(1.0, float(np.abs(embeddings).max())), rtol=0)


@pytest.mark.parametrize("name", representations)
def test_every_representation_is_inside_the_file(name: str, tmp_path: Path):
    features = features_of(name, 1.0)
    torch.manual_seed(0)
    check(
        features, AudioCNN(len(CLASSES), features.shape[0], width=0.1), tmp_path, also_torch=name == "ast"
    )  # of MFCC those of the networks


@pytest.mark.parametrize("name", networks)
def test_every_network_is_inside_the_file(name: str, tmp_path: Path):
    path = conf_dir() / "model" / f"{name}.yaml"
    chosen = re.findall(r"features=(\w+)", path.read_text().split("\n")[0])
    features = features_of(chosen[0] if chosen else "mfcc", 4.0 if chosen else 1.0)
    torch.manual_seed(0)
    node = smaller(OmegaConf.load(path))
    if "width" in node and name in SMALL:
        node.width = 0.1
    check(features, instantiate(node, num_classes=len(CLASSES), in_channels=features.shape[0]), tmp_path)


@pytest.mark.parametrize("ending", ["onnx", pytest.param("pt2", marks=pytest.mark.slow)])
def test_the_file_rejects_what_the_checkpoint_rejects(ending: str, tmp_path: Path):
    features = MFCCStack(window_s=0.5)
    usual = loaded_run(features, AudioCNN(len(CLASSES), 3, width=0.1))
    windows = sound(features, 6)
    logits = usual.predictor(torch.stack([features.analyse(torch.from_numpy(one)).bands for one in windows])).detach()
    rejection = Energy(0.5).fit(logits.numpy(), [1] * len(CLASSES), lambda logits: 0.0)
    assert rejection.rejects(logits.numpy()).sum() == 3
    loaded = replace(usual, adjustment=rejection)
    with torch.inference_mode():
        expected = WaveformClassifier(loaded)(torch.from_numpy(windows))[0].numpy()
    assert ((expected == 0).all(axis=1) == rejection.rejects(logits.numpy())).all()
    write, file = (write_onnx if ending == "onnx" else write_program), tmp_path / f"model.{ending}"
    write(deepcopy(loaded), metadata_of(loaded, hearing_of(features)), file)
    p, _ = (OnnxClassifier(file, "cpu") if ending == "onnx" else Program(file))(windows)
    np.testing.assert_allclose(p, expected, atol=2e-5, rtol=0)
    assert ((p == 0) == (expected == 0)).all()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    features = MFCCStack(window_s=0.5)
    loaded = loaded_run(features, AudioCNN(len(CLASSES), 3, width=0.1))
    file = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_onnx(loaded, metadata_of(loaded, hearing_of(features)), file)
    return file


def test_the_file_says_all_that_a_reader_needs(written: Path):
    session = onnxruntime.InferenceSession(str(written), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map[METADATA]) == {
        "format": 1,
        "task": "single_label",
        "classes": list(CLASSES),
        "sample_rate_hz": 32_000,
        "samples": 16_000,
        "window_s": 0.5,
        "padding": "repeat",
        "audio": {"channel": "left", "dc": "remove", "gain": "peak"},
        "birdclf": "0.1.0",
        "epoch": 3,
        "calibrated": True,
        "quantisation": None,
    }
    (sound_in,) = session.get_inputs()
    assert (sound_in.name, sound_in.type, sound_in.shape) == ("waveform", "tensor(float)", ["batch", 16_000])
    assert [(out.name, out.shape[0]) for out in session.get_outputs()] == [
        ("probabilities", "batch"),
        ("embeddings", "batch"),
    ]


def test_all_weights_are_in_the_one_file_and_no_path_of_this_machine(written: Path):
    onnx.checker.check_model(onnx.load(str(written)), full_check=True)
    model = onnx.load(str(written), load_external_data=False)
    assert all(part.data_location == onnx.TensorProto.DEFAULT for part in model.graph.initializer)
    assert [path.name for path in written.parent.iterdir()] == ["model.onnx"]
    data = written.read_bytes()
    for word in (b'File "', b".py", b"site-packages", str(Path(torch.__file__).parent).encode()):
        assert word not in data


def test_no_operator_is_one_that_few_runtimes_have(written: Path):
    model = onnx.load(str(written))
    assert {node.domain for node in model.graph.node} == {""} and not model.functions
    assert not {node.op_type for node in model.graph.node} & {"DFT", "STFT", "Loop", "If", "Scan"}


class Deciding(AudioCNN):
    """A network whose control flow depends on its input."""

    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


@pytest.mark.parametrize(("write", "ending"), [(write_onnx, ".onnx"), (write_program, ".pt2")])
def test_a_network_that_no_graph_can_hold_is_refused(write, ending: str, tmp_path: Path):
    features = MFCCStack(window_s=0.5)
    loaded = loaded_run(features, Deciding(len(CLASSES), 3, width=0.1))
    with pytest.raises(UserError, match="Deciding cannot be exported: .*forward must not depend"):
        write(loaded, metadata_of(loaded, hearing_of(features)), tmp_path / f"model{ending}")


def test_sound_mixed_by_other_code_is_refused():
    class Own(Mix):
        pass

    features = MFCCStack(window_s=0.5)
    loaded = loaded_run(features, AudioCNN(len(CLASSES), 3, width=0.1))
    with pytest.raises(UserError, match="cannot hold"):
        metadata_of(loaded, InputSpec(CLASSES, 32_000, 16_000, "repeat", Own()))


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setattr("birdclf.export.formats.PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(UserError, match=r"needs no_such_package\. Install it: pip install 'birdclf\[onnx\]'"):
        require_onnx()
