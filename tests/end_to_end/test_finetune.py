"""Fine-tuning in two stages: the head on frozen layers, then all layers from there; a sweep holds both."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from perch_port import NAME, backbone, write_onnx, write_weights
from stopping import Killed, assert_same_end, history_of, stop_in, weights_of
from tiny_runs import TINY, Command

from birdclf.training.callbacks.snapshot import Snapshot

pytest.importorskip("timm")
SMALL = (
    *(word for word in TINY if not word.startswith(("model", "trainer.max_epochs"))),
    *(f"model.name={NAME}", "model.dropout=0", "trainer.max_epochs=2", "loader.batch_size=8"),
    *("split.seed=1", "callbacks.snapshot.every_s=0"),
)
STAGES = "sweep=finetune"


def words(recordings: Path, weights: Path, *more: str) -> list[str]:
    return ["train", "data=folder", f"data.root={recordings}", *SMALL, f"model.pretrained={weights}", *more]


def stage(sweep: Path, name: str) -> Path:
    (folder,) = sweep.glob(f"*_experiment-{name}")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("port") / "perch_2_b3.pt")


@pytest.fixture(scope="module")
def sweep(birdclf: Command, recordings: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    work = tmp_path_factory.mktemp("finetuned")
    original = ("features@original=perch", f"original.file={write_onnx(work / 'perch_v2.onnx')}")
    done = birdclf(*words(recordings, weights, "-m", STAGES, *original, "hydra.sweep.dir=sweep"), cwd=work)
    assert done.status == 0, done.err
    (work / "said").write_text(done.out)
    return work / "sweep"


@pytest.mark.slow
def test_the_first_stage_trains_the_head_alone_on_the_weights_of_the_file(sweep: Path, weights: Path):
    given, learnt = torch.load(weights, weights_only=True), weights_of(stage(sweep, "finetune_head"), "last.ckpt")
    kept = {name.removeprefix("network.backbone."): value for name, value in learnt.items() if ".backbone." in name}
    assert all(torch.equal(value, given[name]) for name, value in kept.items()) and len(kept) == len(given) - 2
    table = pd.read_csv(stage(sweep, "finetune_head") / "pretrained.csv")
    assert dict(table.outcome.value_counts()) == {"fitted": len(kept), "not used": 2}
    said = (sweep.parent / "said").read_text()
    assert f"{len(kept)} of {len(given)} tensors fitted, by name" in said and "classifier.weight: not used" in said


@pytest.mark.slow
def test_the_second_stage_trains_all_layers_from_the_first_at_their_own_rates(sweep: Path):
    head, whole = stage(sweep, "finetune_head"), stage(sweep, "finetune")
    began = json.loads((whole / "provenance.json").read_text())["init_from"]
    assert (sweep.parent / began["file"]).resolve().is_relative_to(head.resolve())
    before, after = weights_of(head, "best.ckpt"), weights_of(whole, "last.ckpt")
    assert [name for name in before if name.startswith("network.") and torch.equal(before[name], after[name])] == []
    (row, *_) = [row for row in history_of(whole) if row["epoch"] == 2]
    shares = {name.removeprefix("lr/"): round(rate / row["lr"], 6) for name, rate in row.items() if "lr/" in name}
    assert shares == {
        "backbone.conv_stem": 0.01, "backbone.bn1": 0.01, "backbone.blocks.[0-2].*": 0.03, "backbone": 0.1
    }  # fmt: skip


@pytest.mark.slow
def test_embeddings_are_compared_with_the_originals_before_training(sweep: Path):
    said = (sweep.parent / "said").read_text()
    table = pd.read_csv(stage(sweep, "finetune_head") / "original.csv")
    assert len(table) > 20 and table.cosine.mean() > 0.999
    assert f"have cosine {table.cosine.mean():.4f} on average, {table.cosine.min():.4f} at least" in said
    assert "does not give" not in said


@pytest.mark.slow
@pytest.mark.parametrize("call", [6, 8], ids=["at the end of the first stage", "in the second stage"])
def test_a_sweep_killed_between_the_stages_resumes(birdclf, recordings, weights, sweep, tmp_path, call):
    command = words(recordings, weights, "-m", STAGES, "hydra.sweep.dir=sweep")
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, Snapshot, "on_train_batch_end", call)
        with pytest.raises(Killed):
            birdclf(*command, cwd=tmp_path)
    finished = {path.parent: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob("*/done.json")}
    assert len(finished) == (call == 8)
    again = birdclf(*command, cwd=tmp_path)
    assert again.status == 0, again.err
    assert all((folder / "done.json").stat().st_mtime_ns == stamp for folder, stamp in finished.items())
    for name in ("finetune_head", "finetune"):
        assert_same_end(stage(tmp_path / "sweep", name), stage(sweep, name))


def test_a_file_that_does_not_fit_is_refused(birdclf, recordings, tmp_path):
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "other.pt")
    command = words(recordings, tmp_path / "other.pt", "experiment=finetune_head", f"hydra.run.dir={tmp_path / 'run'}")
    said = birdclf(*command, cwd=tmp_path).mistake
    assert "are not those of this model: conv_stem.weight is missing" in said and "other.pt" in said
    without = [word for word in command if not word.startswith("model.pretrained")]
    assert "model.pretrained: perch_2_b3.pt does not exist. Give a file" in birdclf(*without, cwd=tmp_path).mistake


@pytest.mark.slow
def test_three_channels_become_one_and_that_is_said(birdclf, recordings, tmp_path):
    run, file = tmp_path / "run", write_weights(tmp_path / "three.pt", channels=3)
    command = words(recordings, file, "experiment=finetune_head", f"hydra.run.dir={run}", "trainer.max_epochs=1")
    done = birdclf(*command, cwd=tmp_path)
    assert done.status == 0, done.err
    assert "conv_stem.weight: fitted: adapted from 3 channels to 1" in done.out
    colours = backbone(channels=3, classes=7).conv_stem.weight.sum(dim=1, keepdim=True)
    assert torch.equal(weights_of(run, "last.ckpt")["network.backbone.conv_stem.weight"], colours)
