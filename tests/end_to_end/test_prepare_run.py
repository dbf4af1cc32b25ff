"""``birdclf prepare`` fills the feature store that training then finds."""

from pathlib import Path

import pandas as pd
from tiny_runs import Command, on_folder


def test_prepare_builds_the_store_and_training_finds_it(birdclf: Command, own_recordings: Path, tmp_path: Path):
    (own_recordings / "Pica pica" / "broken.wav").write_text("not sound")
    store = tmp_path / "features"
    words = ["data=folder", f"data.root={own_recordings}", f"store.dir={store}", "store.workers=0"]
    done = birdclf("prepare", *words, "hydra.run.dir=prepared", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "13 recordings" in done.out and "set aside: 1" in done.out
    audit = pd.read_csv(tmp_path / "prepared" / "audit.csv")
    assert audit[audit.verdict == "reject"].recording_id.tolist() == ["Pica pica/broken.wav"] and len(audit) == 13
    assert (tmp_path / "prepared" / "prepare.log").is_file()
    (frames,) = store.glob("*/frames.f16")
    written = frames.stat().st_mtime_ns
    done = birdclf(*on_folder(own_recordings, tmp_path / "run", f"store.dir={store}"), cwd=tmp_path)
    assert done.status == 0, done.err
    assert [path.stat().st_mtime_ns for path in store.glob("*/frames.f16")] == [written]


def test_prepare_has_a_folder_of_its_own_by_default(birdclf: Command, own_recordings: Path, tmp_path: Path):
    words = ["data=folder", f"data.root={own_recordings}", f"store.dir={tmp_path / 'features'}", "store.workers=0"]
    done = birdclf("prepare", *words, cwd=tmp_path)
    assert done.status == 0, done.err
    assert len(list((tmp_path / "outputs" / "prepare").glob("*/audit.csv"))) == 1


def test_prepare_refuses_an_unknown_setting(birdclf: Command, tmp_path: Path):
    mistake = birdclf("prepare", "features.hopp=3", cwd=tmp_path).mistake
    assert "features.hopp" in mistake and "features.hop?" in mistake
