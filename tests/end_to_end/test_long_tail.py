"""What is for the long tail, through the real command: it trains, goes on, gives equal figures again, or is refused."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from stopping import Killed, assert_same_end, history_of, stop_in
from tiny_runs import Command, metrics_of, on_folder

from birdclf.training.callbacks.snapshot import Snapshot

ADJUSTED = ("posthoc=logit_adjustment", "trainer.max_epochs=2", "optimizer.lr=0.01", "loader.batch_size=8")
LDAM = ("loss=ldam", "model.head=cosine", "loss.reweight_from=0.5", "loss.beta=0.5")
STOPPED = ("trainer.max_epochs=4", "loader.batch_size=4", "callbacks.snapshot.every_s=0")


@pytest.fixture(scope="module")
def adjusted(birdclf: Command, recordings, tmp_path_factory):
    run = tmp_path_factory.mktemp("adjusted") / "run"
    done = birdclf(*on_folder(recordings, run, *ADJUSTED), cwd=run.parent)
    assert done.status == 0, done.err
    return run


def test_adjusted_figures_are_the_runs_and_raw_ones_stand_beside(adjusted):
    metrics = metrics_of(adjusted)
    tau, prior = metrics["adjustment"]["tau"], np.array(metrics["adjustment"]["prior"])
    split = pd.read_csv(adjusted / "split.csv")
    train = split[split.split == "train"].species.value_counts().sort_index()
    np.testing.assert_allclose(prior, train / train.sum())
    table = pd.read_parquet(adjusted / "predictions.parquet")
    test = table[table.split == "test"]
    assert (test.target == test.prediction).mean() == pytest.approx(metrics["test"]["accuracy"]["value"])
    p = test.filter(like="p:").to_numpy(dtype=float) * prior**tau
    raw = table.filter(like="p:").columns.str.removeprefix("p:")[p.argmax(axis=1)]
    assert (raw == test.target).mean() == pytest.approx(metrics["unadjusted"]["test"]["accuracy"]["value"])
    assert metrics["val"]["macro_f1"]["value"] >= metrics["unadjusted"]["val"]["macro_f1"]["value"]
    done = json.loads((adjusted / "done.json").read_text())
    assert done["score"] == metrics["score"] == metrics["val"]["macro_f1"]["value"]
    best = max(row["val/macro_f1"] for row in history_of(adjusted))
    assert metrics["unadjusted"]["val"]["macro_f1"]["value"] == pytest.approx(best)


def test_an_evaluation_gives_equal_figures(birdclf, adjusted, tmp_path):
    copied = shutil.copytree(adjusted, tmp_path / "run")
    done = birdclf("evaluate", copied, cwd=tmp_path)
    assert done.status == 0 and done.out.rstrip().endswith("equal to metrics.json"), done.out + done.err
    done = birdclf("evaluate", copied, "--checkpoint", "last", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "tau" in json.loads((copied / "evaluations" / "last" / "metrics.json").read_text())["adjustment"]


def test_a_damaged_adjustment_is_refused(birdclf, adjusted, tmp_path):
    copied = shutil.copytree(adjusted, tmp_path / "run")
    file = copied / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    content["birdclf"]["adjustment"]["prior"][0] = -1.0
    torch.save(content, file)
    assert "birdclf.adjustment is no tau" in birdclf("evaluate", copied, cwd=tmp_path).mistake


def test_a_fixed_tau_is_taken_as_it_is(birdclf, recordings, tmp_path):
    words = on_folder(recordings, tmp_path / "run", "posthoc=logit_adjustment", "posthoc.tau=1.5")
    assert birdclf(*words, cwd=tmp_path).status == 0
    assert metrics_of(tmp_path / "run")["adjustment"]["tau"] == 1.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ("sampler=power", "sampler.q=0"),
        ("sampler=class_aware", "window.train=all"),
        ("sampler=progressive",),
        LDAM,
    ],
    ids=lambda more: more[0],
)
def test_a_stopped_run_resumes_to_the_same_end(birdclf, recordings, tmp_path, more):
    words = (*STOPPED, *more)
    whole = birdclf(*on_folder(recordings, tmp_path / "whole", *words), cwd=tmp_path)
    assert whole.status == 0, whole.err
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, Snapshot, "on_train_batch_end", 14)  # in the third epoch of four
        with pytest.raises(Killed):
            birdclf(*on_folder(recordings, tmp_path / "run", *words), cwd=tmp_path)
    done = birdclf(*on_folder(recordings, tmp_path / "run", *words, "resume=true"), cwd=tmp_path)
    assert done.status == 0, done.err
    assert_same_end(tmp_path / "run", tmp_path / "whole")


REFUSED = [
    (["loss=balanced_softmax", "sampler=power"], ["allow=[prior_with_sampler]", "sampler=natural"]),
    (["loss=cross_entropy_sqrt", "sampler=class_aware"], ["allow=[weights_with_sampler]"]),
    (["loss=balanced_softmax", "posthoc=logit_adjustment"], ["allow=[prior_twice]", "posthoc=none"]),
    (["allow=[prior_twice]"], ["allow has prior_twice", "Leave it out"]),
    (["allow=[nonsense]"], ["nonsense", "prior_with_sampler"]),
    (["loss=ldam"], ["LDAM", "model.head=cosine"]),
    (["loss=ldam", "model.head=cosine", "loss.scale=20"], ["loss.scale is 20", "model.scale"]),
    (["model.scale=20"], ["model.scale is 20", "model.head=cosine"]),
    (["model.head=round"], ["model.head", "linear, cosine"]),
    (["loss=class_balanced", "loss.gamma=2"], ["loss.gamma is 2", "loss.inside=focal"]),
    (["sampler=power", "sampler.q=2"], ["sampler.q is 2", "between 0"]),
    (["posthoc=logit_adjustment", "posthoc.tau=-1"], ["posthoc.tau is -1"]),
]


@pytest.mark.parametrize(("words", "holds"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_what_cannot_be_is_refused_before_any_sound_is_read(birdclf, recordings, tmp_path, words, holds):
    said = birdclf(*on_folder(recordings, tmp_path / "run", *words), cwd=tmp_path).mistake
    assert all(word in said for word in holds), said
    assert not (tmp_path / "run" / "split.csv").exists()


def test_what_is_allowed_runs(birdclf, recordings, tmp_path):
    words = ("loss=balanced_softmax", "sampler=power", "allow=[prior_with_sampler]")
    done = birdclf(*on_folder(recordings, tmp_path / "run", *words), cwd=tmp_path)
    assert done.status == 0, done.err


def test_a_cosine_scale_is_set_once(birdclf, recordings, tmp_path):
    words = ("loss=ldam", "model.head=cosine", "model.scale=16")
    done = birdclf(*on_folder(recordings, tmp_path / "run", *words), cwd=tmp_path)
    assert done.status == 0, done.err
