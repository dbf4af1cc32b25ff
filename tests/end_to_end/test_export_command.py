"""``birdclf export``: files that say what the run says, what is refused, and what is never overwritten."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from omegaconf import OmegaConf
from onnx import TensorProto, helper
from tiny_runs import REPO, Command, Outcome, on_folder

from birdclf.detection.classifier import METADATA
from birdclf.export.formats import set_metadata

RECORDINGS = REPO.parent / "shared" / "recordings"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def run(birdclf: Command, recordings: Path, work: Path) -> Path:
    """A trained run. Tests only read it, or copy it."""
    words = on_folder(recordings, work / "run", "trainer.max_epochs=3", "optimizer.lr=0.02", "scheduler=constant")
    done = birdclf(*words, "model.width=0.1", cwd=work)
    assert done.status == 0, done.err
    return work / "run"


@pytest.fixture
def export(birdclf: Command, work: Path):
    def command(*words: object) -> Outcome:
        return birdclf("export", *words, cwd=work)

    return command


@pytest.fixture(scope="module")
def exported(birdclf: Command, run: Path, work: Path) -> Path:
    """The run's ONNX file. Tests only read it."""
    done = birdclf("export", run, "--out", work / "exported.onnx", cwd=work)
    assert done.status == 0, done.err
    return work / "exported.onnx"


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may spoil."""
    return Path(shutil.copytree(run, tmp_path / "copied"))


@pytest.mark.slow
def test_several_formats_at_once_go_into_the_run_folder(export, copied: Path):
    done = export(copied, "--format", "torch_export", "card", "--licence", "CC0 1.0")
    assert done.status == 0, done.err
    assert sorted(path.name for path in (copied / "export").iterdir()) == ["model.pt2", "model_card.md"]
    assert "torch_export against the checkpoint, 5 windows of 5 recordings" in done.out
    assert [line for line in done.out.splitlines() if line.startswith("written: ")] == [
        f"written: {copied}/export/{name}" for name in ("model.pt2", "model_card.md")
    ]
    assert done.err == ""
    extra = {"birdclf.json": ""}
    with (copied / "export" / "model.pt2").open("rb") as opened:
        program = torch.export.load(opened, extra_files=extra)
    facts = json.loads(extra["birdclf.json"])
    assert facts["samples"] == 160_000 and facts["calibrated"] is True and facts["quantisation"] is None
    for windows in (1, 5):
        p, embeddings = program.module()(torch.randn(windows, facts["samples"]))
        assert p.shape == (windows, len(facts["classes"])) and len(embeddings) == windows
        torch.testing.assert_close(p.sum(dim=1), torch.ones(windows))
    again = export(copied, "--format", "onnx", "card")
    assert "model_card.md exists already; nothing is overwritten" in again.mistake
    assert not (copied / "export" / "model.onnx").exists()


def rows(out: str) -> list[tuple[str, str, str, str, float]]:
    lines = [line.split(",") for line in out.splitlines()]
    head = lines[0]
    at = head.index("confidence")
    return [(*(value for i, value in enumerate(line) if i != at), float(line[at])) for line in lines[1:]]


@pytest.mark.parametrize("more", [(), ("--hop", "1", "--smooth", "3"), ("--no-merge", "--top-k", "2")])
def test_predict_detects_the_same_in_the_file_as_in_the_run(birdclf, run: Path, exported: Path, recordings: Path, more):
    common = (recordings, "--min-confidence", "0.05", "--device", "cpu", *more)
    ours, theirs = (birdclf("predict", model, *common, cwd=run.parent) for model in (run, exported))
    assert ours.status == theirs.status == 0, theirs.err
    ours_rows, their_rows = rows(ours.out), rows(theirs.out)
    assert len(ours_rows) > 20
    assert [row[:-1] for row in ours_rows] == [row[:-1] for row in their_rows]
    np.testing.assert_allclose([row[-1] for row in ours_rows], [row[-1] for row in their_rows], atol=1e-4)


def test_it_can_be_held_to_recordings_that_are_named(
    export, run: Path, exported: Path, recordings: Path, tmp_path: Path, monkeypatch
):
    # What is written is written already: the network and its features take seconds.
    monkeypatch.setattr("birdclf.export.network.write_onnx", lambda loaded, facts, file: shutil.copy(exported, file))
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    done = export(run, "--out", tmp_path / "a" / "m.onnx", "--verify", recordings / "Bubo bubo", tmp_path / "bad.wav")
    assert done.status == 0 and "of 8 recordings" in done.out
    assert "bad.wav cannot be decoded" in done.err and (tmp_path / "a" / "m.onnx").is_file()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["m.onnx"]


@pytest.mark.slow
def test_a_file_that_says_something_else_is_refused_and_gone(export, run: Path, tmp_path: Path, monkeypatch):
    from birdclf.export import network

    honest = network.write_onnx

    def spoilt(loaded, metadata, file):
        with torch.no_grad():
            loaded.predictor.features.mean += 0.3
        return honest(loaded, metadata, file)

    monkeypatch.setattr(network, "write_onnx", spoilt)
    mistake = export(run, "--out", tmp_path / "new" / "model.onnx").mistake
    assert "onnx file is not written: its" in mistake and "differ from the checkpoint's" in mistake
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_integers_are_measured_and_can_be_used(birdclf, export, run: Path, recordings: Path, tmp_path: Path):
    file = tmp_path / "small.onnx"
    done = export(run, "--quantize", "int8", "--out", file)
    assert done.status == 0 and done.err == "", done.err
    assert "the middle window of 5 validation recordings" in done.out
    for name in ("float32", "int8"):
        (row,) = (line.split()[1:] for line in done.out.splitlines() if line.startswith(name))
        accuracy, macro_f1, megabytes, window_ms = map(float, row)
        assert 0 <= accuracy <= 1 and 0 <= macro_f1 <= 1 and megabytes > 0 and window_ms > 0
    model = onnx.load(str(file))
    assert json.loads({p.key: p.value for p in model.metadata_props}[METADATA])["quantisation"] == "int8"
    integers = [part for part in model.graph.initializer if part.data_type == TensorProto.INT8 and len(part.dims) > 1]
    assert len(integers) == 7, "five convolutions and two linear layers"
    shapes = [list(part.dims) for part in model.graph.initializer if part.data_type == TensorProto.FLOAT]
    assert [1024, 513] in shapes and [20, 128] in shapes, "features stay as they are"
    heard = birdclf("predict", file, recordings, "--min-confidence", "0.01", cwd=tmp_path)
    assert heard.status == 0 and len(rows(heard.out)) > 20


def test_another_program_s_file_is_refused(birdclf, exported: Path, recordings: Path, tmp_path: Path):
    x = helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["b", 8])
    y = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["b", 8])
    graph = helper.make_graph([helper.make_node("Relu", ["waveform"], ["probabilities"])], "other", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "other.onnx"))
    assert "was not written by birdclf" in birdclf("predict", "other.onnx", recordings, cwd=tmp_path).mistake
    (tmp_path / "text.onnx").write_text("no graph")
    assert "cannot be read as an ONNX file" in birdclf("predict", "text.onnx", recordings, cwd=tmp_path).mistake
    newer = onnx.load(str(exported))
    facts = json.loads({p.key: p.value for p in newer.metadata_props}[METADATA])
    set_metadata(newer, facts | {"format": 99})
    onnx.save(newer, str(tmp_path / "newer.onnx"))
    mistake = birdclf("predict", "newer.onnx", recordings, cwd=tmp_path).mistake
    assert "has format 99" in mistake and "Update birdclf" in mistake


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "card", "--quantize", "int8"), "--quantize is for --format onnx alone"),
        (("--format", "onnx", "torch_export", "--quantize", "int8"), "--quantize is for --format onnx alone"),
        (("--format", "onnx", "card", "--out", "x.onnx"), "--out names one file"),
        (("--out", "x.bin"), "must end in .onnx"),
        (("--licence", "MIT"), "add --format card"),
        (("--format", "card", "--licence", " "), "--licence is empty"),
        (("--format", "card", "--verify", "a.wav"), "--verify is for --format onnx and torch_export"),
        (("--format", "card", "--source", "data.root=x"), "--source is for"),
        (("--format", "card", "--checkpoint", "last"), "those of the best one"),
        (("--verify", "a.wav", "--source", "data.root=x"), "Give one of them"),
        (("--verify", "nothing.wav"), "nothing.wav does not exist"),
        (("--source", "data.root=nowhere"), "--verify AUDIO"),
        (("--out", "run/config.yaml/model.onnx"), "cannot be written to"),
        (("--format", "card", "--out", "run/config.yaml"), "exists already"),
    ],
)
def test_a_mistake_is_answered_in_a_sentence(export, run: Path, work: Path, words: tuple[str, ...], said: str):
    before = sorted(work.rglob("*"))
    assert said in export(run, *words).mistake
    assert sorted(work.rglob("*")) == before


def test_what_is_no_run_is_named(export, run: Path, work: Path, copied: Path, monkeypatch):
    assert "is no folder" in export("nowhere").mistake
    assert "is no folder" in export(run / "config.yaml").mistake
    assert "best.ckpt does not exist" in export(work).mistake
    content = torch.load(copied / "checkpoints" / "best.ckpt", weights_only=True)
    content["birdclf"]["format"] = 99
    torch.save(content, copied / "checkpoints" / "best.ckpt")
    assert "Update birdclf" in export(copied).mistake
    (copied / "metrics.json").unlink()
    assert "metrics.json does not exist" in export(copied, "--format", "card").mistake
    monkeypatch.setattr("birdclf.export.formats.PACKAGES", ("no_such_package",))
    assert "pip install 'birdclf[onnx]'" in export(run).mistake


@pytest.mark.slow
def test_recordings_that_are_gone_need_others(export, copied: Path, recordings: Path, tmp_path: Path):
    config = OmegaConf.load(copied / "config.yaml")
    moved = Path(shutil.copytree(recordings, tmp_path / "moved"))
    config.data.root = str(tmp_path / "before")
    OmegaConf.save(config, copied / "config.yaml")
    assert "--source data.root" in (mistake := export(copied).mistake) and "--verify AUDIO" in mistake
    done = export(copied, "--source", f"data.root={moved}", "--format", "torch_export", "--out", tmp_path / "a.pt2")
    assert done.status == 0, done.err
    shutil.rmtree(moved / "Bubo bubo")
    mistake = export(copied, "--source", f"data.root={moved}").mistake
    assert "lacks 1 validation recordings" in mistake and "Bubo bubo" in mistake and "--verify AUDIO" in mistake


def test_nothing_that_can_be_decoded_proves_nothing(export, run: Path, tmp_path: Path):
    (tmp_path / "text.wav").write_text("no sound")
    done = export(run, "--verify", tmp_path, "--out", tmp_path / "m.onnx")
    assert done.status == 1 and "none of 1 recordings can be decoded" in done.err and "Traceback" not in done.err
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.slow
def test_on_every_real_recording_it_is_what_the_checkpoint_is(export, run: Path, tmp_path: Path):
    if not RECORDINGS.is_dir():
        pytest.skip("no real recordings at ../shared/recordings")
    done = export(run, "--verify", RECORDINGS, "--out", tmp_path / "model.onnx")
    assert done.status == 0 and "of 40 recordings" in done.out, done.err
