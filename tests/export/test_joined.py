"""A frozen network and the head on it, as one graph and as two files."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx_embedders import RATE_HZ, SAMPLES, WIDTH, embedder_of, write_embedder

from birdclf.audio.mixing import Mix
from birdclf.detection.classifier import METADATA, InputSpec, OnnxClassifier
from birdclf.errors import UserError
from birdclf.export.formats import Program, is_head, metadata_of, write_onnx, write_program
from birdclf.export.joined import joined
from birdclf.features.embedders.embedder import Embedder, VectorFeatures
from birdclf.models.probes import LinearProbe, MLPProbe
from birdclf.posthoc.base import Adjustment
from birdclf.runs.checkpoint import LoadedRun
from birdclf.runs.waveforms import WaveformClassifier

CLASSES = ("barn owl", "crane", "wood lark")
SPEC = InputSpec(CLASSES, RATE_HZ, SAMPLES, "silence", Mix())
LEVELS = np.array([[0.2], [0.02], [0.0]], np.float32)
SOUND = LEVELS * np.random.default_rng(5).standard_normal((3, SAMPLES), np.float32)


def loaded_run(features: Embedder, hidden: bool = False) -> LoadedRun:
    torch.manual_seed(2)
    network = MLPProbe(len(CLASSES), WIDTH, hidden=5) if hidden else LinearProbe(len(CLASSES), WIDTH)
    return LoadedRun(network.eval(), features.eval(), True, CLASSES, 1.7, 3, {}, Adjustment(0.7, (0.5, 0.3, 0.2)))


def expected(loaded: LoadedRun) -> list[np.ndarray]:
    with torch.inference_mode():
        return [answer.numpy() for answer in WaveformClassifier(deepcopy(loaded))(torch.from_numpy(SOUND))]


def agree(answers: tuple[np.ndarray, np.ndarray], with_checkpoint: list[np.ndarray]) -> None:
    for mine, theirs in zip(answers, with_checkpoint, strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("network", "settings", "hidden"),
    [
        ({}, {}, False),
        ({"opset": 13}, {"scale": 32768.0}, True),
        ({"opset": 20, "flat": False}, {"peak": 0.25}, False),
        pytest.param({"batch": 1}, {"scale": 2.0, "peak": 0.5}, False, marks=pytest.mark.slow),
        ({"opset": 13, "batch": 1, "flat": False}, {}, False),
    ],
)
def test_one_graph_gives_what_both_give(network: dict, settings: dict, hidden: bool, tmp_path: Path):
    features = embedder_of(write_embedder(tmp_path / "frozen.onnx", **network), **settings)
    loaded, file = loaded_run(features, hidden), tmp_path / "model.onnx"
    assert not is_head(loaded, "onnx")
    write_onnx(deepcopy(loaded), metadata_of(loaded, SPEC), file)
    with_checkpoint = expected(loaded)
    (tmp_path / "frozen.onnx").unlink()
    agree(OnnxClassifier(file, "cpu")(SOUND), with_checkpoint)
    onnx.checker.check_model(onnx.load(file), full_check=True)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (sound_in,) = session.get_inputs()
    assert sound_in.name == "waveform" and sound_in.shape[1] == SAMPLES
    assert [out.name for out in session.get_outputs()] == ["probabilities", "embeddings"]


def test_the_graph_holds_no_part_of_the_frozen_network_that_is_not_used(tmp_path: Path):
    features = embedder_of(write_embedder(tmp_path / "frozen.onnx"))
    loaded = loaded_run(features)
    write_onnx(loaded, metadata_of(loaded, SPEC), tmp_path / "model.onnx")
    operators = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert "ReduceMean" in operators and "Neg" not in operators


def test_the_metadata_name_the_frozen_network_and_no_folder(tmp_path: Path):
    features = embedder_of(write_embedder(tmp_path / "frozen.onnx"), scale=2.0)
    loaded = loaded_run(features)
    write_onnx(loaded, metadata_of(loaded, SPEC), tmp_path / "model.onnx")
    metadata = {one.key: one.value for one in onnx.load(tmp_path / "model.onnx").metadata_props}
    own = json.loads(metadata[METADATA])
    assert own["format"] == 1
    assert own["embedder"]["target"] == "birdclf.features.embedders.embedder.Embedder"
    assert own["embedder"]["settings"] == features.settings | {"file": "frozen.onnx"}
    assert own["embedder"]["hash"] == features.content_hash and own["embedder"]["licence"] is None
    assert str(tmp_path).encode() not in (tmp_path / "model.onnx").read_bytes()


@pytest.fixture(scope="module")
def made_head(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LoadedRun]:
    """Return a folder with the file of a head alone and that of its frozen network, and the run."""
    folder = tmp_path_factory.mktemp("head")
    loaded = loaded_run(embedder_of(write_embedder(folder / "frozen.onnx"), peak=0.25))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("birdclf.export.formats.is_head", lambda loaded, form: True)
        write_onnx(deepcopy(loaded), metadata_of(loaded, SPEC, head=True), folder / "head.onnx")
    return folder, loaded


@pytest.fixture
def head(made_head: tuple[Path, LoadedRun], tmp_path: Path) -> tuple[Path, Path, LoadedRun]:
    """Return the file of a head alone, that of its frozen network, both to be changed, and the run."""
    shutil.copytree(made_head[0], tmp_path, dirs_exist_ok=True)
    loaded = deepcopy(made_head[1])
    loaded.features.file = tmp_path / "frozen.onnx"
    return tmp_path / "head.onnx", tmp_path / "frozen.onnx", loaded


def test_a_head_takes_the_vectors_of_its_frozen_network(head: tuple[Path, Path, LoadedRun], tmp_path: Path):
    file, frozen, loaded = head
    with_checkpoint, elsewhere = expected(loaded), frozen.rename(tmp_path / "moved.onnx")
    classifier = OnnxClassifier(file, "cpu", elsewhere)
    assert classifier.input_spec == SPEC
    agree(classifier(SOUND), with_checkpoint)
    (vectors,) = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).get_inputs()
    assert (vectors.name, vectors.shape) == ("vectors", ["batch", WIDTH])


def test_a_head_without_its_frozen_network_says_which_it_needs(head: tuple[Path, Path, LoadedRun], tmp_path: Path):
    file, _, loaded = head
    own = loaded.features.settings["content_hash"]
    with pytest.raises(UserError, match=rf"head\.onnx takes the vectors of frozen\.onnx, .* {own}\. .*--embedder FILE"):
        OnnxClassifier(file, "cpu")
    with pytest.raises(UserError, match=r"--embedder .*none\.onnx does not exist"):
        OnnxClassifier(file, "cpu", tmp_path / "none.onnx")
    other = write_embedder(tmp_path / "other.onnx", seed=1)
    with pytest.raises(UserError, match=rf"other\.onnx is not the network that is needed: .* not {own}\."):
        OnnxClassifier(file, "cpu", other)


@pytest.mark.parametrize(
    "changed",
    [{"embedder": None}, {"embedder": {"settings": {}}}, {"embedder": {"target": "os.system", "settings": {}}}],
)
def test_a_head_with_damaged_metadata_is_refused(changed: dict, head: tuple[Path, Path, LoadedRun]):
    file, frozen, _ = head
    model = onnx.load(file)
    (entry,) = [one for one in model.metadata_props if one.key == METADATA]
    entry.value = json.dumps(json.loads(entry.value) | changed)
    onnx.save(model, file)
    with pytest.raises(UserError, match=r"head\.onnx"):
        OnnxClassifier(file, "cpu", frozen)


def test_an_embedder_is_refused_where_the_file_takes_sound(tmp_path: Path):
    frozen = write_embedder(tmp_path / "frozen.onnx")
    loaded = loaded_run(embedder_of(frozen))
    write_onnx(loaded, metadata_of(loaded, SPEC), tmp_path / "model.onnx")
    with pytest.raises(UserError, match=r"--embedder is for a head alone; .*model\.onnx takes sound as it is"):
        OnnxClassifier(tmp_path / "model.onnx", "cpu", frozen)


def test_torch_export_holds_the_head_alone(tmp_path: Path):
    loaded = loaded_run(embedder_of(write_embedder(tmp_path / "frozen.onnx"), scale=3.0))
    assert is_head(loaded, "torch_export")
    write_program(deepcopy(loaded), metadata_of(loaded, SPEC, head=True), tmp_path / "model.pt2")
    program = Program(tmp_path / "model.pt2", loaded.features)
    agree(program(SOUND), expected(loaded))
    assert program.metadata["format"] == 2


class Elsewhere(VectorFeatures):
    """Vectors of no frozen network."""

    fingerprint = analyse_blocks = analyse_windows = embed = None


def test_vectors_of_no_frozen_network_are_refused():
    features = object.__new__(Elsewhere)
    torch.nn.Module.__init__(features)
    loaded = LoadedRun(LinearProbe(3, 4), features, True, CLASSES, None, 0, {})
    with pytest.raises(UserError, match="Elsewhere, are not those of one frozen network"):
        is_head(loaded, "onnx")


def test_what_cannot_be_joined_is_refused_with_the_reason(tmp_path: Path):
    features = embedder_of(write_embedder(tmp_path / "frozen.onnx"))
    _ = features.network
    (tmp_path / "frozen.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"frozen\.onnx and the head cannot become one graph: .+ birdclf predict RUN"):
        joined(None, features)
