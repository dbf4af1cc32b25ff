"""File names with characters that tables, shells and Hydra give a meaning to, through every source that takes them."""

import csv

import layouts
import pandas as pd
import pytest

from birdclf.audio.resampling import read_waveform
from birdclf.data.sources.audacity import audacity_catalog
from birdclf.data.sources.birdclef import birdclef_catalog
from birdclf.data.sources.folder import folder_catalog
from birdclf.data.sources.manifest import manifest_catalog
from birdclf.data.sources.raven import raven_catalog
from birdclf.data.sources.xeno_canto import NEEDED, xeno_canto_catalog

NAMES = ("a b", "a,b", "a=b", "a\"b'c", "Grünspecht", "Gru\u0308nspecht", "a\nb", "a;b", "a#b", "{a}[b]$c%d", "-a")


@pytest.fixture
def root(tmp_path):
    """Return a folder of one recording a name, in a folder of the same name."""
    for number, name in enumerate(NAMES):
        layouts.sound(tmp_path / name / f"{name}.wav", 1000.0, seed=number)
    return tmp_path


def folder(root):
    return folder_catalog(str(root))


def manifest(root):
    with (root / "list.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "species"), *[(f"{name}/{name}.wav", name) for name in NAMES]])
    return manifest_catalog(str(root / "list.csv"))


def parquet(root):
    pd.DataFrame({"path": [f"{name}/{name}.wav" for name in NAMES], "species": NAMES}).to_parquet(root / "list.parquet")
    return manifest_catalog(str(root / "list.parquet"))


def birdclef(root):
    (root / "train_audio").mkdir()
    for name in NAMES:
        (root / name).rename(root / "train_audio" / name)
    rows = [{"primary_label": name, "filename": f"{name}/{name}.wav"} for name in NAMES]
    layouts.write_csv(root / "train.csv", "primary_label filename", rows)
    return birdclef_catalog(str(root))


def xeno_canto(root):
    rows = [{"id": i, "species": name, "file": f"{name}/{name}.wav"} for i, name in enumerate(NAMES)]
    layouts.write_csv(root / "recordings.csv", " ".join(NEEDED), rows)
    return xeno_canto_catalog(str(root))


def raven(root):
    for name in NAMES:
        label = " ".join(name.split())  # a line of a table holds no line break
        layouts.selections(root / name / f"{name}.selections.txt", [(1, "S", 1, 0, 1, 0, 1, label)], "Species")
    return raven_catalog(str(root))


def audacity(root):
    for name in NAMES:
        (root / name / f"{name}.txt").write_text(f"0\t1\t{' '.join(name.split())}\n", encoding="utf-8")
    return audacity_catalog(str(root))


@pytest.mark.parametrize("source", [folder, manifest, parquet, birdclef, xeno_canto, raven, audacity])
def test_every_name_is_a_recording_that_can_be_read(root, source):
    made = source(root)
    assert len(made) == len(NAMES) and made.table.recording_id.is_unique
    assert {path.rpartition("/")[2] for path in made.table.path} == {f"{name}.wav" for name in NAMES}
    assert not {"absent", "unreadable"} & set(made.table.stamp)
    assert all(len(read_waveform(made.reader, clip, 16_000)) for clip in made.clips())
    if source not in (raven, audacity):
        assert set(made.classes) == set(NAMES)
    made.table.to_parquet(root / "table.parquet")
    assert pd.read_parquet(root / "table.parquet").recording_id.tolist() == made.table.recording_id.tolist()
