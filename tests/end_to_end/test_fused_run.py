"""Runs on vectors computed elsewhere and on several representations at once, from training to new sound."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from tiny_runs import Command, metrics_of, on_folder

import birdclf as package
from birdclf.runs.checkpoint import load_run

pytestmark = pytest.mark.slow  # its parts are tested in tests/features
PROBE = (
    "model=linear_probe", "window.train=bag", "window.eval=all", "trainer.max_epochs=5", "trainer.accelerator=cpu",
    "trainer.precision=32-true", "callbacks.progress=null", "+trainer.enable_progress_bar=false", "store.workers=0",
    "optimizer.lr=0.1", "scheduler=constant",
)  # fmt: skip
SECOND = 8_000


def on_probe(recordings: Path, run: str, *more: str) -> list[str]:
    return ["train", "data=folder", f"data.root={recordings}", *PROBE, f"hydra.run.dir={run}", *more]


def write_network(file: Path) -> None:
    """Write a network of windows of 1 s at 8 kHz: the energy in 6 random directions."""
    directions = np.random.default_rng(0).standard_normal((SECOND, 6)).astype(np.float32) / 90
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["B", s]) for n, s in (("sound", SECOND), ("out", 6))]
    nodes = [
        helper.make_node("MatMul", ["sound", "matrix"], ["product"]),
        helper.make_node("Abs", ["product"], ["out"]),
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], [numpy_helper.from_array(directions, "matrix")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)


def write_vectors(recordings: Path, file: Path) -> None:
    """Write vectors in which the species is plain, but for one recording."""
    rng, rows = np.random.default_rng(1), []
    species = sorted(folder.name for folder in recordings.iterdir())
    for sound in sorted(recordings.rglob("*.wav"))[1:]:
        for start in (0.5, 0.0):
            vector = 0.3 * rng.standard_normal(5) + 3 * np.eye(5)[species.index(sound.parent.name)]
            rows.append((sound.relative_to(recordings).as_posix(), start, start + 0.5, vector))
    pd.DataFrame(rows, columns=["recording_id", "start_s", "end_s", "vector"]).to_parquet(file)


@pytest.fixture(scope="module")
def work(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs ``vectors``, ``fused`` and ``network``, a CNN, of one split. Tests only read it."""
    cwd = tmp_path_factory.mktemp("fused")
    write_network(cwd / "network.onnx")
    write_vectors(recordings, cwd / "vectors.parquet")
    split = ("split=file", "split.path=vectors/split.csv")
    parts = ("features=fusion", "features@features.parts.first=embedder", "features.parts.first.file=network.onnx",
             f"features.parts.first.sample_rate_hz={SECOND}", "features.parts.first.window_s=1",
             "features.parts.second.window_s=1", "features.parts.second.n_mfcc=13")  # fmt: skip
    for words in (
        on_probe(recordings, "vectors", "features=vectors", "features.file=vectors.parquet"),
        on_probe(recordings, "fused", *parts, *split),
        on_folder(recordings, "network", *split),
    ):
        done = birdclf(*words, cwd=cwd)
        assert done.status == 0, done.err
    return cwd


def probabilities(folder: Path) -> pd.DataFrame:
    table = pd.read_parquet(folder / "predictions.parquet").set_index(["split", "recording_id"]).sort_index()
    return table[[name for name in table if name.startswith("p:")]]


def test_a_run_on_vectors_is_evaluated_from_the_store_and_refuses_new_sound(birdclf, recordings, work, tmp_path):
    audit = pd.read_csv(work / "vectors" / "audit.csv")
    (left,) = audit[audit.verdict == "reject"].itertuples()
    assert left.recording_id == "Alauda arvensis/00.wav" and left.problems == "no_vector"
    assert metrics_of(work / "vectors")["test"]["accuracy"]["value"] == 1
    again = birdclf("evaluate", "vectors", cwd=work)
    assert again.status == 0, again.err
    (work / "vectors.parquet").rename(tmp_path / "away.parquet")
    try:
        again = birdclf("evaluate", "vectors", "--window", "loudest", "--out", tmp_path / "loudest", cwd=work)
    finally:
        (tmp_path / "away.parquet").rename(work / "vectors.parquet")
    assert again.status == 0, again.err
    assert "cannot be computed for new sound" in birdclf("predict", "vectors", recordings, cwd=work).mistake


@pytest.mark.slow
def test_a_fused_run_classifies_new_sound_as_it_did_the_stored(birdclf, work, recordings, tmp_path):
    settings = yaml.safe_load((work / "fused" / "config.yaml").read_text())["features"]["parts"]
    assert settings["first"]["file"] == "network.onnx" and settings["second"]["n_mfcc"] == 13
    again = birdclf("evaluate", "fused", cwd=work)
    assert again.status == 0, again.err
    predicted = birdclf("predict", "fused", recordings, "--out", tmp_path / "out", "--embeddings", cwd=work)
    assert predicted.status == 0, predicted.err
    name = probabilities(work / "fused").loc["test"].index[0]
    embeddings = np.load(tmp_path / "out" / "embeddings" / f"{name}.npz")["embeddings"]
    assert embeddings.shape[1] == 6 + 2 * 3 * 13
    words = ("features=vectors", f"features.file={tmp_path / 'out'}", f"store.dir={tmp_path / 'store'}")
    done = birdclf(*on_probe(recordings, "again", *words), cwd=tmp_path)  # vectors of predict, normalised already
    assert done.status == 0, done.err
    assert (pd.read_csv(tmp_path / "again" / "audit.csv").problems != "no_vector").all()
    frames = sum(len(np.load(file)["start_s"]) for file in (tmp_path / "out").rglob("*.npz"))
    assert pd.read_parquet(next((tmp_path / "store").glob("*/index.parquet"))).frames.sum() == frames


def test_a_loaded_fused_run_gives_new_sound_the_vectors_of_the_stored(work, recordings, monkeypatch):
    monkeypatch.chdir(work)
    detector, network = package.load("fused", device="cpu"), load_run(Path("fused")).network
    stored = probabilities(work / "fused").loc["test"]
    assert detector.window_s == 1 and len(stored) > 3
    for name, expected in stored.iterrows():
        windows, vectors = detector.embeddings(recordings / str(name))
        assert len(windows) == len(vectors) and vectors.shape[1] == 6 + 2 * 3 * 13
        with torch.no_grad():
            found = network(torch.from_numpy(vectors)).mean(dim=0).softmax(dim=0)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_members_of_other_features_are_averaged(birdclf, work):
    done = birdclf("train", "members=[vectors,network,fused]", "hydra.run.dir=late", cwd=work)
    assert done.status == 0, done.err
    each = [probabilities(work / name) for name in ("vectors", "network", "fused")]
    assert [len(one) for one in each] == [len(each[0])] * 3
    whole = probabilities(work / "late")
    pd.testing.assert_frame_equal(whole, sum(each) / 3, atol=1e-5, check_names=False)
    members = json.loads((work / "late" / "metrics.json").read_text())["members"]
    assert [Path(one["folder"]).name for one in members] == ["vectors", "network", "fused"]


def test_a_changed_checkpoint_of_a_fused_run_is_refused(birdclf, work, tmp_path):
    shutil.copytree(work / "fused", tmp_path / "fused")
    file = tmp_path / "fused" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["features"]["parts"]["second"]["_target_"] = "birdclf.models.audio_cnn.AudioCNN"
    file.write_text(yaml.safe_dump(config))
    said = birdclf("evaluate", tmp_path / "fused", cwd=work).mistake
    assert "features.parts.second._target_" in said and "is no Representation; nothing is run" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["features=[birdnet,mfcc]"], "features=fusion features@features.parts.first=birdnet features@features.parts."),
        (["features=fusion", "features@features.parts.second=pcem"], "no option 'pcem'. Did you mean pcen?"),
        (["features=fusion", "features@features.parts.second=null"], "no option 'null'"),
        (["features=vectors"], "features.file has no value"),
        (["features=vectors", "features.file=nowhere.npz"], "nowhere.npz does not exist"),
    ],
)
def test_words_that_choose_no_features_are_refused(birdclf, recordings, tmp_path, words, said):
    assert said in birdclf(*on_probe(recordings, "run", *words), cwd=tmp_path).mistake
