"""Background and rejection through the real commands: they train, are evaluated alike, and detect nothing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_runs import Command, metrics_of, on_folder

import birdclf as package


@pytest.fixture(scope="module")
def run(birdclf: Command, recordings: Path, tone, tmp_path_factory) -> Path:
    """Return a run with background and a threshold that half of the validation recordings reach."""
    folder = tmp_path_factory.mktemp("no_bird")
    for n in range(8):
        tone(folder / "rain" / f"{n}.wav", hz=60.0, noise=0.3)
    words = ("data.background=rain", "data.background_share=0.4", "posthoc=energy", "posthoc.accept=0.5")
    done = birdclf(*on_folder(recordings, folder / "run", *words), cwd=folder)
    assert done.status == 0, done.err
    return folder / "run"


def test_the_run_says_what_it_rejects(run: Path):
    metrics = metrics_of(run)
    rejection = metrics["rejection"]
    assert list(rejection) == ["score", "threshold", "accept", "val_rejected", "test_rejected"]
    assert rejection["score"] == "energy" and 0 < rejection["val_rejected"] <= 0.5 and rejection["accept"] == 0.5
    assert not {"adjustment", "unadjusted"} & set(metrics)
    split = pd.read_csv(run / "split.csv", keep_default_na=False)
    assert set(split.split[split.species == "none"]) == {"train", "val", "test"}
    table = pd.read_parquet(run / "predictions.parquet")
    assert (table.filter(like="p:").sum(axis=1) > 0.99).all(), "figures count rejected recordings"
    assert "background, without any class:" in (run / "train.log").read_text()


def test_an_evaluation_gives_equal_figures(birdclf: Command, run: Path):
    done = birdclf("evaluate", run, cwd=run.parent)
    assert done.status == 0 and done.out.rstrip().endswith("equal to metrics.json"), done.out + done.err


@pytest.mark.slow
def test_nothing_is_detected_in_what_is_rejected(birdclf: Command, run: Path, recordings: Path):
    detector = package.load(run)
    table = detector.probabilities(sorted(map(str, recordings.glob("*/*.*"))))
    sums = table[list(detector.classes)].sum(axis=1)
    rejected = sums == 0
    assert 0 < rejected.sum() < len(table) and np.allclose(sums[~rejected], 1, atol=1e-5)
    done = birdclf(
        "predict", run, recordings, "--min-confidence", "0.0001", "--no-merge", "--out", "found", cwd=run.parent
    )
    assert done.status == 0, done.err
    found = pd.read_csv(run.parent / "found" / "detections.csv")
    assert len(found.groupby(["path", "start_s"])) == int((~rejected).sum())
