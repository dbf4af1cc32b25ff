"""Several runs as one: their predictions averaged, or their weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_runs import Command, metrics_of, on_folder

from birdclf.runs import soup as soups


@pytest.fixture(scope="module")
def work(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs ``a``, ``b`` and ``narrow`` of one split, and ``other`` of another. Tests only read it."""
    cwd = tmp_path_factory.mktemp("work")
    first = birdclf(*on_folder(recordings, "a", "optimizer.lr=0.02", "scheduler=constant"), cwd=cwd)
    assert first.status == 0, first.err
    same = ("split=file", "split.path=a/split.csv")
    for name, words in {
        "b": ("seed=2", "optimizer.lr=0.03", "scheduler=constant", *same),
        "narrow": ("model.width=0.02", *same),
        "other": ("seed=3",),
    }.items():
        done = birdclf(*on_folder(recordings, name, *words), cwd=cwd)
        assert done.status == 0, done.err
    return cwd


def probabilities(folder: Path) -> np.ndarray:
    table = pd.read_parquet(folder / "predictions.parquet").sort_values(["split", "recording_id"])
    return table[[name for name in table if name.startswith("p:")]].to_numpy()


def test_saved_predictions_are_averaged_without_a_model(birdclf, work: Path, tmp_path: Path):
    for name in ("a", "b"):
        shutil.copytree(work / name, tmp_path / name, ignore=shutil.ignore_patterns("checkpoints"))
    done = birdclf("evaluate", "a", "b", "--out", "both", cwd=tmp_path)
    assert done.status == 0, done.err
    both = tmp_path / "both"
    mean = (probabilities(tmp_path / "a") + probabilities(tmp_path / "b")) / 2
    assert probabilities(both) == pytest.approx(mean, abs=1e-6)
    metrics = metrics_of(both)
    assert [m["weight"] for m in metrics["members"]] == [0.5, 0.5]
    assert metrics["parameters"] == sum(metrics_of(tmp_path / name)["parameters"] for name in ("a", "b"))
    assert {"low", "high"} <= metrics["test"]["accuracy"].keys()
    assert metrics["test"]["buckets"]["few"]["recall"] is not None
    assert "McNemar: " in done.out and "macro_f1: " in done.out
    assert "exists already" in birdclf("evaluate", "a", "b", "--out", "both", cwd=tmp_path).mistake
    report = birdclf("report", "a", "both", "--out", "told", "--no-gallery", cwd=tmp_path)
    assert report.status == 0 and "left out" not in report.out, report.out + report.err
    text = (tmp_path / "told" / "report.md").read_text()
    assert "equal mean of 2 runs' probabilities" in text and "birdclf evaluate a b --average probabilities" in text


def test_models_predict_where_something_else_is_asked_for(birdclf, work: Path, tmp_path: Path):
    done = birdclf("evaluate", "a", "narrow", "--window", "all", "--average", "logits", "--weights", "tuned",
                   "--out", tmp_path / "all", cwd=work)  # fmt: skip
    assert done.status == 0 and done.out.count("predicting: ") == 2 and "tuned weights" in done.out, done.err
    config = (tmp_path / "all" / "config.yaml").read_text()
    assert "average: logits" in config and "window: all" in config
    assert metrics_of(tmp_path / "all")["temperature"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "a", "other"], "The splits differ: recording "),
        (["evaluate", "a", "a"], "given twice"),
        (["evaluate", "a", "nowhere"], "is no folder"),
        (["evaluate", "a", "--weights", "tuned"], "--weights says how several runs"),
        (["soup", "a"], "RUN: a soup needs two run folders or more"),
        (["soup", "a", "narrow"], "model.width is 0.03 in a and 0.02 in narrow"),
        (["soup", "a", "other"], "The splits differ: recording "),
    ],
)
def test_what_cannot_be_put_together_is_refused_by_its_first_difference(birdclf, work: Path, words, said):
    assert said in birdclf(*words, cwd=work).mistake
    assert not (work / "outputs" / "ensembles").exists() and not (work / "outputs" / "soups").exists()


def test_species_that_differ_are_named(birdclf, work: Path, tmp_path: Path):
    shutil.copytree(work / "b", tmp_path / "b")
    table = pd.read_parquet(tmp_path / "b" / "predictions.parquet")
    renamed = table.rename(columns={"p:Bubo bubo": "p:Strix aluco"}).replace("Bubo bubo", "Strix aluco")
    renamed.to_parquet(tmp_path / "b" / "predictions.parquet")
    assert "knows the species Bubo bubo, and" in birdclf("evaluate", work / "a", tmp_path / "b", cwd=work).mistake


def test_weights_on_features_of_other_recordings_are_no_soup(birdclf, work: Path, tmp_path: Path):
    shutil.copytree(work / "b", tmp_path / "b")
    checkpoint = tmp_path / "b" / "checkpoints" / "best.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["features.mean"] += 1
    torch.save(content, checkpoint)
    mistake = birdclf("soup", work / "a", tmp_path / "b", cwd=work).mistake
    assert "features.mean differs" in mistake and "fitted on other recordings" in mistake


def test_a_soup_that_is_no_better_is_not_written_but_on_demand(birdclf, work: Path, monkeypatch, tmp_path: Path):
    usual = soups.score
    seen: list[float] = []

    def ever_worse(predictions, monitor):
        seen.append(usual(predictions, monitor))
        return -float(len(seen))

    with monkeypatch.context() as patch:
        patch.setattr(soups, "score", ever_worse)
        done = birdclf("soup", "a", "b", cwd=work)
        assert done.status == 0 and "no soup is better" in done.out and not (work / "outputs" / "soups").exists()
        kept = birdclf("soup", "a", "b", "--recipe", "uniform", "--keep", "--out", tmp_path / "soup", cwd=work)
    assert kept.status == 0, kept.err
    content = {
        name: torch.load(path / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for name, path in (("a", work / "a"), ("b", work / "b"), ("soup", tmp_path / "soup"))
    }
    weight = next(name for name in content["soup"] if name.endswith("conv.weight"))
    assert torch.allclose(content["soup"][weight], (content["a"][weight] + content["b"][weight]) / 2, atol=1e-7)
    again = birdclf("evaluate", tmp_path / "soup", cwd=work)
    assert again.status == 0 and again.out.rstrip().endswith("equal to metrics.json"), again.out
    assert "exists already" in birdclf("soup", "a", "b", "--out", tmp_path / "soup", cwd=work).mistake


def test_a_soup_that_is_better_is_a_run_folder(birdclf, work: Path, monkeypatch, tmp_path: Path):
    seen: list[int] = []
    monkeypatch.setattr(soups, "score", lambda predictions, monitor: float(seen.append(1) or len(seen)))
    done = birdclf("soup", "a", "b", "--out", tmp_path / "soup", cwd=work)
    assert done.status == 0 and "greedy soup of 2 runs" in done.out, done.err
    assert [m["weight"] for m in metrics_of(tmp_path / "soup")["members"]] == [0.5, 0.5]
    assert json.loads((tmp_path / "soup" / "done.json").read_text())["seconds"] > 0
    report = birdclf("report", "a", tmp_path / "soup", "--out", tmp_path / "told", "--no-gallery", cwd=work)
    assert report.status == 0 and "left out" not in report.out, report.out + report.err
