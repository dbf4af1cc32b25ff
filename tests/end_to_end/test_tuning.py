"""How weights are learnt: each way goes on from a stop to the same end, and does what it says."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from stopping import Killed, assert_same_end, history_of, stop_in, weights_of
from tiny_runs import Command, on_folder

from birdclf.training.callbacks.snapshot import Snapshot

LONG = ("trainer.max_epochs=4", "loader.batch_size=4", "callbacks.snapshot.every_s=0", "model.dropout=0.5")
EMA = ("averaging=ema", "averaging.decay=0.9")
SWA = ("averaging=swa", "averaging.start=0.5")
ACCUMULATED = ("trainer.accumulate_grad_batches=4",)  # 6 batches an epoch: a group of 4 and one of 2
LAYERS = ("layers.freeze=[features.0,features.1]", "layers.rates={features: 0.1, output: 3}", "layers.decay=matrices")
WAYS = {
    "ema": EMA,
    "swa": SWA,
    "accumulation": ACCUMULATED,
    "layers": LAYERS,
    "all": (*SWA, *ACCUMULATED, *LAYERS),
}
DDP = ("trainer=ddp", "trainer.devices=2")


def words(recordings: Path, run: Path, *more: str) -> list[str]:
    named = on_folder(recordings, run, *LONG)
    keys = {word.partition("=")[0] for word in more}
    return [*(word for word in named if word.partition("=")[0] not in keys), *more]


@pytest.fixture(scope="module")
def trained(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return the folder of an undisturbed run of some settings; each is trained once."""
    folder, runs = tmp_path_factory.mktemp("trained"), {}

    def train(*more: str) -> Path:
        if more not in runs:
            run = folder / str(len(runs))
            done = birdclf(*words(recordings, run, *more), cwd=folder)
            assert done.status == 0, done.err
            runs[more] = run
        return runs[more]

    return train


@pytest.mark.slow
@pytest.mark.parametrize("call", [9, 21])
@pytest.mark.parametrize("way", WAYS)
def test_a_stopped_run_resumes_to_the_same_end(birdclf, recordings, tmp_path, trained, way, call):
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, Snapshot, "on_train_batch_end", call)
        with pytest.raises(Killed):
            birdclf(*words(recordings, run, *WAYS[way]), cwd=tmp_path)
    assert (run / "checkpoints" / "last.ckpt").exists() and not (run / "done.json").exists()
    done = birdclf(*words(recordings, run, *WAYS[way], "resume=true"), cwd=tmp_path)
    assert done.status == 0, done.err
    assert "resuming after epoch" in done.out
    assert_same_end(run, trained(*WAYS[way]))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ema", "swa"])
def test_an_evaluation_gives_the_figures_of_the_averaged_weights(birdclf, trained, way):
    run = trained(*WAYS[way])
    done = birdclf("evaluate", run, cwd=run.parent)
    assert done.status == 0 and done.out.rstrip().endswith("equal to metrics.json"), done.out + done.err
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    plain = torch.load(trained() / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["state_dict"].keys() == plain["state_dict"].keys()


@pytest.mark.slow
def test_an_average_changes_nothing_of_the_training_itself(trained):
    ours, theirs = history_of(trained(*EMA)), history_of(trained())
    for one, other in zip(ours, theirs, strict=True):
        assert {k: v for k, v in one.items() if k.startswith("train/")} == {
            k: v for k, v in other.items() if k.startswith("train/")
        }
        assert one["val/nll"] != other["val/nll"]


@pytest.mark.slow
def test_the_mean_of_the_last_epochs_begins_at_its_start_and_runs_at_its_rate(trained):
    ours, theirs = history_of(trained(*SWA)), history_of(trained())
    assert ours[:2] == theirs[:2]
    assert [row["lr"] for row in ours[2:]] == pytest.approx([5e-4, 5e-4]) != [row["lr"] for row in theirs[2:]]
    content = torch.load(trained(*SWA) / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["averaging_state"]["n_averaged"] == 2


def test_the_mean_of_weights_has_statistics_of_its_own_in_every_norm(trained):
    mean = weights_of(trained(*SWA, "averaging.rate=null"), "last.ckpt")
    own = weights_of(trained(), "last.ckpt")  # of the same training, as its last step left them
    names = [name for name in own if name.endswith(("running_mean", "running_var"))]
    assert len(names) >= 6
    for name in names:
        assert not torch.equal(mean[name], own[name]), f"{name} is the last step's"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("sampler=progressive",), r"q 1 to 0\.\d\d, not to 0\. Let it last"),
        (("loss=ldam", "model.head=cosine"), r"loss\.reweight_from is 0\.8 of the epochs\. Let it last"),
    ],
)
def test_what_early_stopping_cuts_off_is_reported(birdclf, recordings, tmp_path, more, said):
    still = ("optimizer.lr=1e-12", "callbacks.early_stopping.patience=1", "model.dropout=0")
    done = birdclf(*words(recordings, tmp_path / "run", *still, *more), cwd=tmp_path)
    assert done.status == 0, done.err
    log = (tmp_path / "run" / "train.log").read_text()
    assert re.search(rf"training ended after [23] of 4 epochs.*{said}", log), log


def test_frozen_layers_and_their_statistics_are_those_that_training_began_with(trained):
    run = trained(*LAYERS)
    best, last = (weights_of(run, name) for name in ("best.ckpt", "last.ckpt"))
    frozen = [name for name in last if name.startswith(("network.features.0.", "network.features.1."))]
    assert len(frozen) == 14
    assert all(torch.equal(best[name], last[name]) for name in frozen)
    assert all(bool((last[name] == 0).all()) for name in frozen if name.endswith("running_mean"))
    assert int(last["network.features.2.norm.num_batches_tracked"]) == 4 * 6
    assert int(last["network.features.0.norm.num_batches_tracked"]) == 0
    row = history_of(run)[-1]
    assert row["lr/features"] == pytest.approx(0.1 * row["lr"]) and row["lr/output"] == pytest.approx(3 * row["lr"])


# Norms see batches of other sizes, and the norm of a clipped gradient is that of the whole step.
EXACT = ("model.dropout=0", "trainer.max_epochs=2", "layers.freeze=[features]", "optimizer=sgd", "optimizer.lr=0.1")


def test_small_batches_added_up_are_the_large_batch(trained):
    whole = trained(*EXACT, "loader.batch_size=16")
    added = trained(*EXACT, "loader.batch_size=4", "trainer.accumulate_grad_batches=4")
    for ours, theirs in zip(history_of(added), history_of(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    ours, theirs = (weights_of(run, "last.ckpt") for run in (added, whole))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(trained):
    # A last batch of 3, as two processes share it without drawing a recording again.
    shared = ("loader.batch_size=6", "trainer.accumulate_grad_batches=3", "model.dropout=0", "trainer.max_epochs=2")
    # Frozen norms do not mix recordings; others see each process's part of a batch on a CPU.
    layers = ("layers.freeze=[features]", "layers.rates={output: 3}", "layers.decay=matrices")
    more = (*shared, *layers, "averaging=swa", "averaging.start=0")
    alone, together = trained(*more), trained(*more, *DDP)
    for ours, theirs in zip(history_of(together), history_of(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=5e-3, abs=1e-3)


@pytest.mark.slow
def test_a_range_of_rates_is_tried_and_leaves_the_folder_for_a_run(birdclf, recordings, tmp_path, trained):
    run = tmp_path / "run"
    found = birdclf(*words(recordings, run, "lr_find=true", "optimizer=sgd", "layers.rates={output: 2}"), cwd=tmp_path)
    assert found.status == 0 and "suggested: optimizer.lr=" in found.out, found.err
    table = pd.read_csv(run / "lr_find.csv")
    assert list(table) == ["rate", "loss", "smoothed"] and len(table) <= 100
    assert np.allclose(np.diff(np.log(table.rate)), np.log(1e8) / 99)
    assert (run / "lr_find.png").read_bytes()[:4] == b"\x89PNG"
    assert not (run / "config.yaml").exists() and not (run / "checkpoints").exists()
    done = birdclf(*words(recordings, run), cwd=tmp_path)
    assert done.status == 0, done.err
    assert_same_end(run, trained())


@pytest.mark.slow
def test_a_range_test_notes_the_loss_of_whole_steps(birdclf, recordings, tmp_path):
    first = []
    for run, more in (("whole", ()), ("added", ("loader.batch_size=4", "trainer.accumulate_grad_batches=4"))):
        given = words(recordings, tmp_path / run, *EXACT, "loader.batch_size=16", *more, "lr_find=true")
        found = birdclf(*given, cwd=tmp_path)
        assert found.status == 0, found.err
        first.append(pd.read_csv(tmp_path / run / "lr_find.csv").loss[0])
    assert first[1] == pytest.approx(first[0], rel=1e-3)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("resume=true",), "Leave out resume=true"),
        (DDP, "trainer=default"),
    ],
)
def test_what_a_range_test_does_not_go_together_with(birdclf, recordings, tmp_path, more, said):
    assert said in birdclf(*words(recordings, tmp_path / "run", "lr_find=true", *more), cwd=tmp_path).mistake


def test_a_sweep_of_range_tests_is_refused(birdclf, recordings, tmp_path):
    given = [word for word in words(recordings, tmp_path) if not word.startswith("hydra.run.dir")]
    done = birdclf(given[0], "-m", *given[1:], "lr_find=true", f"hydra.sweep.dir={tmp_path / 'sweep'}", cwd=tmp_path)
    assert done.status == 1 and "Leave out -m" in done.out + done.err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("layers.freeze=[featurs]", "Near are features"),
        ("layers.rates={features.0: -1}", "above 0"),
        ("averaging.decay=2", "averaging.decay"),
        ("trainer.accumulate_grad_batches=0", "accumulate_grad_batches"),
        ("+callbacks.checkpoint.save_weights_only=true", "averaging=null"),
        ("redraw_output=true", "init_from=RUN"),
        ("init_from=nowhere", "does not exist"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(birdclf, recordings, tmp_path, setting, said):
    assert said in birdclf(*words(recordings, tmp_path / "run", "averaging=ema", setting), cwd=tmp_path).mistake


def test_a_run_starts_from_another(birdclf, recordings, tmp_path, trained):
    source, run = trained(), tmp_path / "run"
    more = (f"init_from={source}", "optimizer.lr=1e-9", "trainer.max_epochs=1", "layers=head_only")
    done = birdclf(*words(recordings, run, *more), cwd=tmp_path)
    assert done.status == 0, done.err
    assert "tensors fitted, by name" in done.out and "this run's own" in done.out
    assert "other features" not in done.out
    ours, theirs = weights_of(run, "last.ckpt"), weights_of(source, "best.ckpt")
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    began = json.loads((run / "provenance.json").read_text())["init_from"]
    assert began["file"].endswith("best.ckpt") and len(began["content_hash"]) == 24


@pytest.mark.slow
def test_a_resumed_run_keeps_its_own_weights_and_knows_a_changed_file(birdclf, recordings, tmp_path, trained):
    source = tmp_path / "w.pt"
    torch.save(weights_of(trained(), "best.ckpt"), source)
    more = (f"init_from={source}", "trainer.max_epochs=2")
    whole = birdclf(*words(recordings, tmp_path / "whole", *more), cwd=tmp_path)
    assert whole.status == 0, whole.err
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, Snapshot, "on_train_batch_end", 9)
        with pytest.raises(Killed):
            birdclf(*words(recordings, run, *more), cwd=tmp_path)
    kept = source.read_bytes()
    torch.save(weights_of(trained(), "last.ckpt"), source)
    assert "began with other weights" in birdclf(*words(recordings, run, *more, "resume=true"), cwd=tmp_path).mistake
    source.write_bytes(kept)
    done = birdclf(*words(recordings, run, *more, "resume=true"), cwd=tmp_path)
    assert done.status == 0, done.err
    assert_same_end(run, tmp_path / "whole")


def test_rows_of_more_equal_length_are_kept_for_an_evaluation(birdclf, recordings, tmp_path, trained):
    run = trained("posthoc=tau_norm", "trainer.max_epochs=2")
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 <= metrics["adjustment"]["tau"] <= 1 and len(metrics["adjustment"]["lengths"]) == 4
    assert metrics["unadjusted"]["val"] and metrics["score"] >= 0
    done = birdclf("evaluate", run, cwd=run.parent)
    assert done.status == 0 and done.out.rstrip().endswith("equal to metrics.json"), done.out + done.err
    cosine = words(recordings, tmp_path / "run", "posthoc=tau_norm", "model.head=cosine")
    assert "model.head=linear" in birdclf(*cosine, cwd=tmp_path).mistake


@pytest.mark.slow
def test_the_second_stage_trains_the_output_layer_alone(birdclf, recordings, tmp_path, trained):
    source, run = trained(), tmp_path / "run"
    done = birdclf(*words(recordings, run, "experiment=crt", f"init_from={source}"), cwd=tmp_path)
    assert done.status == 0, done.err
    assert "classifier.5.weight (redrawn)" in done.out
    ours, theirs = weights_of(run, "last.ckpt"), weights_of(source, "best.ckpt")
    moved = {name for name in theirs if not torch.equal(ours[name], theirs[name])}
    assert moved == {"network.classifier.5.weight", "network.classifier.5.bias"}
