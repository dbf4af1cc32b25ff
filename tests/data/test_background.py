"""Recordings without any of the classes: read from a folder or a table, split, drawn at a share."""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from birdclf.audio.clip import Clip
from birdclf.audio.files import FileReader
from birdclf.config import conf_dir
from birdclf.data.background import JoinedReader
from birdclf.data.catalog import Catalog, select
from birdclf.data.dataset import DrawSampler, Part
from birdclf.data.module import RecordingDataModule
from birdclf.data.samplers import ClassAware, Natural, Power, Sampler, order_with_background
from birdclf.data.sources.folder import folder_catalog
from birdclf.data.sources.manifest import manifest_catalog
from birdclf.data.sources.synthetic import synthetic_catalog
from birdclf.data.splits import ColumnSplit, GroupedSplit, Split, StratifiedSplit
from birdclf.data.windows import WindowPolicy
from birdclf.errors import UserError
from birdclf.features.mfcc import MFCCStack

QUIET = ("rain/a.wav", "rain/b.wav", "wind/deep/c.wav", *(f"{n}.wav" for n in range(5)))


@pytest.fixture(scope="module")
def background(tmp_path_factory: pytest.TempPathFactory, tone) -> Path:
    """Return a folder of eight recordings of noise."""
    root = tmp_path_factory.mktemp("quiet")
    for name in QUIET:
        tone(root / name, seconds=1.5, hz=100.0, noise=0.2)
    (root / "notes.txt").write_text("rain")
    return root


@pytest.fixture
def make(folder_root: Path, background: Path, store_root: Path) -> Callable[..., RecordingDataModule]:
    def maker(split: Split | None = None, sampler: Sampler | None = None, **selection) -> RecordingDataModule:
        catalog = folder_catalog(str(folder_root), **({"background": str(background)} | selection))
        data = RecordingDataModule(
            catalog, MFCCStack(), split or StratifiedSplit(), WindowPolicy(), batch_size=5, store_dir=store_root,
            store_workers=0, sampler=sampler,
        )  # fmt: skip
        data.prepare()
        return data

    return maker


def test_a_folder_becomes_rows_of_none(folder_root, folder, background):
    made = folder_catalog(str(folder_root), background=str(background))
    quiet = made.table[made.table.species == "none"]
    assert sorted(quiet.recording_id) == sorted(f"background/{name}" for name in QUIET)
    assert set(quiet.labels) == {()} and set(made.table.labels) == {(), *((name,) for name in folder.classes)}
    groups = quiet.set_index("recording_id").group
    assert groups["background/rain/a.wav"] == groups["background/rain/b.wav"] == "background/rain"
    assert groups["background/wind/deep/c.wav"] == "background/wind/deep" and groups["background/3.wav"] == ""
    assert made.classes == tuple(sorted([*folder.classes, "none"])) and made.reader == FileReader()
    others = made.table[made.table.species != "none"].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, folder.table)


def test_the_content_hash_changes_with_background_alone(folder_root, folder, background):
    assert folder_catalog(str(folder_root), background=None).content_hash == folder.content_hash
    with_it = folder_catalog(str(folder_root), background=str(background))
    assert with_it.content_hash != folder.content_hash
    shared = folder_catalog(str(folder_root), background=str(background), background_share=0.5)
    assert shared.content_hash == with_it.content_hash and shared.background_share == 0.5


def test_a_table_lists_background(folder_root, background):
    table = background / "quiet.csv"
    table.write_text("path,start_s,end_s,group,species\n0.wav,0,1,north,wind\n0.wav,1,1.5,north,\nrain/a.wav,,,,\n")
    made = folder_catalog(str(folder_root), background=str(table)).table
    quiet = made[made.species == "none"].set_index("recording_id")
    assert list(quiet.index) == ["background/0.wav#0-1", "background/0.wav#1-1.5", "background/rain/a.wav"]
    assert quiet.start_s.tolist() == [0, 1, 0] and quiet.group.tolist() == ["north", "north", ""]
    assert set(quiet.labels) == {()}
    table.unlink()


def test_no_selection_touches_background(folder_root, background):
    table = folder_catalog(
        str(folder_root), background=str(background), species=["crane", "wood lark"], exclude=["crane"],
        max_per_species=2,
    ).table  # fmt: skip
    assert table.species.value_counts().to_dict() == {"none": len(QUIET), "wood lark": 2}
    other = Catalog(pd.DataFrame({"recording_id": ["a"], "species": ["x"], "quality": [5.0]}), FileReader(), "rated")
    assert select(other, min_quality="A", background=str(background)).classes == ("none", "x")


def test_a_source_that_is_no_files_keeps_its_reader(background):
    usual, made = (synthetic_catalog(scale=0.01, num_species=2, background=b) for b in (None, str(background)))
    assert isinstance(made.reader, JoinedReader) and made.reader.source == usual.reader
    again = pickle.loads(pickle.dumps(made.reader))
    assert again.fingerprint() == made.reader.fingerprint() != usual.reader.fingerprint()
    quiet = next(clip for clip in made.clips() if clip.path)
    sung = next(clip for clip in made.clips() if not clip.path)

    def samples(reader, clip: Clip) -> np.ndarray:
        with reader.open(clip) as sound:
            return np.concatenate(list(sound.blocks))

    np.testing.assert_array_equal(samples(again, sung), samples(usual.reader, sung))
    np.testing.assert_array_equal(samples(again, quiet), samples(FileReader(), quiet))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"background": "gone"}, r"data\.background=gone does not exist\. Point it at a folder"),
        ({"background_share": 0.2}, r"data\.background_share=0\.2 is a share .* Give them by data\.background=DIR"),
        ({"background_share": 1.0}, r"data\.background_share is 1\.0; it must be at least 0 and below 1"),
        ({"background_share": -0.1}, r"data\.background_share is -0\.1"),
    ],
)
def test_what_cannot_be_is_refused(folder_root, settings, words):
    with pytest.raises(UserError, match=words):
        folder_catalog(str(folder_root), **settings)


def test_an_empty_folder_or_table_is_refused(folder_root, tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match=r"holds no recording with one of the endings \.aif"):
        folder_catalog(str(folder_root), background=str(tmp_path))
    (tmp_path / "a.csv").write_text("path\n")
    with pytest.raises(UserError, match="lists no recording"):
        folder_catalog(str(folder_root), background=str(tmp_path / "a.csv"))
    (tmp_path / "b.csv").write_text("file\nx.wav\n")
    with pytest.raises(UserError, match=r"data\.background=.*b\.csv lacks the column\(s\) path.* needs 'path'\."):
        folder_catalog(str(folder_root), background=str(tmp_path / "b.csv"))
    (tmp_path / "c.csv").write_text(f"path\n{next(folder_root.rglob('*.wav'))}\n")
    with pytest.raises(UserError, match="Correct the path, or move the table above them"):
        folder_catalog(str(folder_root), background=str(tmp_path / "c.csv"))


def test_recordings_of_the_source_are_no_background(folder_root):
    for place in (folder_root, folder_root / "crane"):
        with pytest.raises(UserError, match=r"holds (32|8) recordings of folder .* itself, first .*wav"):
            folder_catalog(str(folder_root), background=str(place))
    made = folder_catalog(str(folder_root), background=str(folder_root / "crane"), exclude=["crane"])
    assert made.class_counts["none"] == 8 and "crane" not in made.classes


def test_recordings_in_which_the_source_hears_nothing_are_background_too(tmp_path, tone, background):
    for name in ("none/a.wav", "none/b.wav", "wren/a.wav"):
        tone(tmp_path / name)
    both = folder_catalog(str(tmp_path), background=str(background))
    assert both.class_counts["none"] == 2 + len(QUIET)
    assert folder_catalog(str(tmp_path), background_share=0.5).background_share == 0.5


def test_splits_treat_none_as_a_class(make):
    data = make()
    by_stage = data.table[data.table.species == "none"].split.value_counts()
    assert (by_stage.reindex(["train", "val", "test"]) > 0).all() and by_stage.sum() == len(QUIET)
    assert "background, without any class: " + ", ".join(f"{by_stage[s]} {s}" for s in ("train", "val", "test")) in (
        data.summary()
    )
    grouped = make(split=GroupedSplit()).table
    assert (grouped[grouped.group != ""].groupby("group").split.nunique() == 1).all()
    assert set(grouped.split[grouped.species == "none"]) == {"train", "val", "test"}
    assert {"recordist", "audio"} <= set(data.leaks().leak)


def test_it_is_said_where_no_background_is_trained_on(make, caplog, folder_root, background):
    few = {"background": str(background / "wind")}
    data = make(split=StratifiedSplit(min_recordings=2), **few)
    assert "none" not in data.classes
    assert "none of the 1 recordings without any class" in caplog.text and "split.min_recordings" in caplog.text
    with pytest.raises(UserError, match=r"none of the 1 recordings .* data\.background_share=0\.5 needs some"):
        make(split=StratifiedSplit(min_recordings=2), background_share=0.5, **few)
    caplog.clear()
    rows = folder_catalog(str(folder_root)).table.assign(split=["train"] * 5 + ["val", "test", "test"] + ["train"] * 24)
    manifest = folder_root / "all.csv"
    rows.assign(path=rows.recording_id)[["path", "species", "split"]].to_csv(manifest, index=False)
    try:
        catalog = manifest_catalog(str(manifest), background=str(background))
        assert catalog.table.split[catalog.table.species == "none"].isna().all()
        assert set(ColumnSplit().assign(catalog, 0).index) == set(rows.recording_id)
    finally:
        manifest.unlink()


TARGET = np.random.default_rng(0).permutation(np.repeat(np.arange(4), (60, 20, 5, 15)))
BACKGROUND = TARGET == 3
FILES = sorted(path.stem for path in (conf_dir() / "sampler").glob("*.yaml"))


def built(name: str) -> Sampler:
    whole = OmegaConf.create({"trainer": {"max_epochs": 5}})
    whole.sampler = OmegaConf.load(conf_dir() / "sampler" / f"{name}.yaml")
    return instantiate(whole.sampler)


def order(sampler: Sampler, share: float, epoch: int = 0, target: np.ndarray = TARGET) -> np.ndarray:
    return order_with_background(sampler, BACKGROUND, share, target, epoch, np.random.default_rng([1, epoch]))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0, 0.01, 0.15, 0.5, 0.99])
def test_an_epoch_has_its_share_of_background_and_as_many_draws(name, share):
    sampler = built(name)
    drawn = [order(sampler, share, epoch) for epoch in range(4)]
    for epoch, positions in enumerate(drawn):
        assert positions.shape == TARGET.shape and positions.dtype == np.int64
        assert abs(BACKGROUND[positions].sum() - share * len(TARGET)) < 1
        assert (positions == order(sampler, share, epoch)).all(), "it is not a function of seed and epoch"
        for k in range(4):  # no recording again before all others of its class
            times = np.bincount(positions, minlength=len(TARGET))[k == TARGET]
            assert times.max() - times.min() <= 1
    assert len({tuple(positions) for positions in drawn}) == 4
    unnumbered = np.where(BACKGROUND, -1, TARGET)
    assert (order(sampler, share, 3, unnumbered) == drawn[3]).all(), "the number of background matters"


def test_a_share_is_right_on_average():
    drawn = [BACKGROUND[order(Natural(), 0.125, epoch)].sum() for epoch in range(400)]
    assert set(drawn) == {12, 13} and abs(np.mean(drawn) - 12.5) < 0.1


def test_classes_are_balanced_among_themselves():
    for sampler in (Power(0.0), ClassAware()):
        counts = sum(np.bincount(TARGET[order(sampler, 0.4, epoch)], minlength=4) for epoch in range(50))
        assert counts[3] == 50 * 40
        np.testing.assert_allclose(counts[:3] / 50, 20, atol=1)


def test_background_lies_anywhere_in_an_epoch():
    places = np.concatenate([np.flatnonzero(BACKGROUND[order(Natural(), 0.3, epoch)]) for epoch in range(50)])
    assert abs(places.mean() - 49.5) < 3 and places.min() == 0 and places.max() == 99


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_an_epoch_and_it_resumes_anywhere(processes):
    own, size = partial(order_with_background, ClassAware(), BACKGROUND, 0.3, TARGET), 4 * processes
    whole = DrawSampler(len(TARGET), 1, size, order=own)
    parts = [DrawSampler(len(TARGET), 1, size, Part(rank, processes), own) for rank in range(processes)]
    whole.set_epoch(2)
    draws = list(whole)
    for part in parts:
        part.start_at(2, 3 * size)
    rest = [list(part) for part in parts]
    together = [draw for several in zip(*rest, strict=False) for draw in several]
    assert together[: len(TARGET) - 3 * size - processes] == draws[3 * size : len(TARGET) - processes]


def rows_of(data: RecordingDataModule, epoch: int) -> list[int]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return torch.cat([batch.recording for batch in loader]).tolist()


def test_batches_have_the_share(make):
    plain, shared = make(), make(background_share=0.6)
    train = plain.table.row[plain.table.split == "train"]
    quiet = set(plain.source.table.index[plain.source.table.species == "none"])
    assert sorted(rows_of(plain, 1)) == sorted(train)
    drawn = rows_of(shared, 1)
    assert len(drawn) == len(train) and abs(sum(row in quiet for row in drawn) - 0.6 * len(train)) < 1
    assert drawn == rows_of(make(background_share=0.6), 1)
    assert not quiet & set(rows_of(make(background_share=0.0), 1))
    assert shared.class_counts.tolist() == plain.class_counts.tolist()
