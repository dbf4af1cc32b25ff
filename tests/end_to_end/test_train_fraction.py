"""A sweep over parts of the train split, and its learning curve in the report."""

from pathlib import Path

import pandas as pd
import pytest
from tiny_runs import TINY, Command


@pytest.mark.slow
def test_a_sweep_over_train_fractions_makes_a_learning_curve(birdclf: Command, recordings: Path, tmp_path: Path):
    words = ["split.train_fraction=0.4,0.7,1", "seed=1", "split.seed=3", "hydra.sweep.dir=swept", "pictures=false"]
    done = birdclf("train", "-m", "data=folder", f"data.root={recordings}", *TINY, *words, cwd=tmp_path)
    assert done.status == 0, done.err
    jobs = sorted(path for path in (tmp_path / "swept").iterdir() if path.is_dir())
    splits = [pd.read_csv(job / "split.csv").set_index("recording_id") for job in jobs]
    held_out = [split[split.split != "train"] for split in splits]
    train = [set(split.index[split.split == "train"]) for split in splits]
    assert held_out[0].equals(held_out[2]) and held_out[1].equals(held_out[2])
    assert train[0] < train[1] < train[2]
    left_out = pd.read_csv(jobs[0] / "left_out.csv")
    assert set(left_out.recording_id) == train[2] - train[0] and not (jobs[2] / "left_out.csv").exists()
    again = birdclf("evaluate", jobs[0], cwd=tmp_path)
    assert again.status == 0 and "equal to metrics.json" in again.out
    done = birdclf("report", "swept", "--out", "told", "--no-gallery", cwd=tmp_path)
    assert done.status == 0, done.err
    text = (tmp_path / "told" / "report.md").read_text()
    assert "## Learning curve" in text and f"From {len(train[0])} to {len(train[2])} train recordings" in text
    assert "seed 1 (split 3)" in text
