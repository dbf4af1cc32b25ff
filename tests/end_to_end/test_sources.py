"""Every source's real layout is prepared and trained on for one epoch through the real command."""

from collections.abc import Callable
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tiny_runs import TINY, Command, metrics_of
from torchmetrics.classification import MultilabelAveragePrecision

SOURCES: dict[str, tuple[str, Callable[[Path], Path], list[str], int]] = {
    "birdclef-2021": ("birdclef", lambda root: layouts.birdclef(root, 2021), sorted(layouts.CODES), 18),
    "birdclef-2022": ("birdclef", lambda root: layouts.birdclef(root, 2022), sorted(layouts.CODES), 18),
    "birdclef-2025": ("birdclef", layouts.birdclef, sorted(layouts.CODES), 18),
    "kaggle_extended": ("kaggle_extended", layouts.kaggle_extended, sorted(layouts.CODES.values()), 18),
    "raven": ("raven", layouts.raven, ["Alauda arvensis", "Bubo bubo"], 12),
    "audacity": ("audacity", layouts.audacity, ["Alauda arvensis", "Grünspecht"], 12),
    "soundscape": ("soundscape", layouts.soundscape, ["Bubo bubo", "none"], 12),
}


def test_birdset_trains_on_focal_recordings_and_is_tested_on_its_segments(birdclf: Command, tmp_path: Path):
    root = layouts.birdset(tmp_path / "source")
    words = ["data=birdset", f"data.root={root}", f"store.dir={tmp_path / 'features'}", "split=grouped", *TINY]
    done = birdclf("train", *words, "task=multi_label", "hydra.run.dir=run", cwd=tmp_path)
    assert done.status == 0, done.err
    split = pd.read_csv(tmp_path / "run" / "split.csv", dtype=str)
    part = split.recording_id.str.partition("/")[0]
    assert set(split.split[part == "train"]) == {"train", "val"} and set(split.split[part == "test_5s"]) == {"test"}
    assert (part == "test_5s").sum() == 6
    # BirdSet's figures (Rauch et al., 2024), by other programs
    test = pd.read_parquet(tmp_path / "run" / "predictions.parquet").query("split == 'test'")
    heard, p = (test.filter(regex=f"^{kind}:").to_numpy() for kind in "yp")
    seen, some = heard.any(axis=0), heard.any(axis=1)
    figures = metrics_of(tmp_path / "run")["test"]
    cmap = MultilabelAveragePrecision(int(seen.sum()))(torch.tensor(p[:, seen]), torch.tensor(heard[:, seen]).long())
    assert figures["cmap"]["value"] == pytest.approx(float(cmap), abs=1e-6)
    assert figures["auroc"]["value"] == pytest.approx(roc_auc_score(heard[:, seen], p[:, seen]))
    top = heard[np.arange(len(p)), p.argmax(axis=1)]
    assert figures["t1_accuracy"]["value"] == pytest.approx(top[some].mean())
    assert seen.sum() == 3 and some.sum() == 4


OTHER_YEARS = ("birdclef-2021", "birdclef-2022", "kaggle_extended", "audacity")  # their layouts: tests/data/sources


@pytest.mark.parametrize(
    "source", [pytest.param(name, marks=pytest.mark.slow if name in OTHER_YEARS else ()) for name in SOURCES]
)
def test_a_source_is_prepared_and_trained_on(source: str, birdclf: Command, tmp_path: Path):
    data, write, classes, clips = SOURCES[source]
    root = write(tmp_path / "source")
    words = [f"data={data}", f"data.root={root}", f"store.dir={tmp_path / 'features'}"]
    done = birdclf("prepare", *words, "store.workers=0", "hydra.run.dir=prepared", cwd=tmp_path)
    assert done.status == 0, done.err
    assert f"{clips} recordings" in done.out

    tiny = [word for word in TINY if not word.startswith("model")]
    done = birdclf("train", *words, *tiny, "model=audio_cnn", "model.width=0.1", "hydra.run.dir=run", cwd=tmp_path)
    assert done.status == 0, done.err
    split = pd.read_csv(tmp_path / "run" / "split.csv", dtype=str)
    assert len(split) == clips and sorted(split.species.unique()) == classes
    assert split.recording_id.is_unique and set(split.split) == {"train", "val", "test"}
    assert set(split.species[split.split == "train"]) == set(classes)
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["birdclf"]["classes"] == classes


@pytest.mark.parametrize("data", ["raven", "audacity"])
def test_a_recording_never_straddles_two_grouped_splits(data: str, birdclf: Command, tmp_path: Path):
    root = layouts.BUILDERS[data](tmp_path / "source")
    words = ["train", f"data={data}", f"data.root={root}", "split=grouped", *TINY, "hydra.run.dir=run"]
    done = birdclf(*words, f"store.dir={tmp_path / 'features'}", cwd=tmp_path)
    assert done.status == 0, done.err
    split = pd.read_csv(tmp_path / "run" / "split.csv", dtype=str)
    recording = split.recording_id.str.rsplit("#", n=1).str[0]
    assert (split.groupby(recording).split.nunique() == 1).all() and set(split.split) == {"train", "val", "test"}
