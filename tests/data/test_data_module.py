import numpy as np
import pandas as pd
import pytest
import torch

from birdclf.audit.rules import Rules
from birdclf.data.catalog import Catalog
from birdclf.data.module import RecordingDataModule
from birdclf.data.samplers import Power
from birdclf.data.sources.folder import folder_catalog
from birdclf.data.splits import ColumnSplit, FileSplit, StratifiedSplit
from birdclf.data.windows import WindowPolicy, window_starts
from birdclf.errors import UserError
from birdclf.features.mfcc import MFCCStack


@pytest.fixture
def make(folder, store, store_root):
    """Return a maker of prepared data modules on the session's recordings; the store is built already."""

    def maker(catalog: Catalog = folder, prepare: bool = True, **settings) -> RecordingDataModule:
        arguments = {"split": StratifiedSplit(), "window": WindowPolicy(), "batch_size": 5, "store_dir": store_root}
        data = RecordingDataModule(catalog, MFCCStack(), **(arguments | settings), store_workers=0)
        if prepare:
            data.prepare()
        return data

    return maker


def with_split(folder: Catalog, split: list[str | None]) -> Catalog:
    return Catalog(folder.table.assign(split=split), folder.reader, "given")


def test_split_and_counts(make, folder):
    data = make()
    assert data.classes == folder.classes and len(data.table) == 32
    assert data.table.split.value_counts().to_dict() == {"train": 22, "val": 5, "test": 5}
    train = data.table[data.table.split == "train"]
    assert data.class_counts.tolist() == [int((train.species == name).sum()) for name in data.classes]
    assert data.class_counts.dtype == torch.int64
    assert sum(data.support(stage) for stage in ("train", "val", "test")).tolist() == [8] * 4


def test_a_class_that_seems_to_be_no_species_is_told_in_sets_of_species(make, folder):
    renamed = folder.table.assign(species=folder.table.species.replace("crane", "NoCall")).drop(columns="labels")
    catalog = Catalog(renamed, folder.reader, "given")
    said = "taken for a species: NoCall. Call it none if nothing is heard in its recordings"
    assert said in make(catalog, task="multi_label").summary() and said not in make(catalog).summary()


def test_the_seed_of_the_split_is_the_runs_unless_it_has_its_own(make):
    def stages(seed: int, own: int | None) -> list[str]:
        return make(split=StratifiedSplit(seed=own), seed=seed).table.split.tolist()

    assert stages(1, 5) == stages(2, 5) == stages(5, None) != stages(1, None)


def test_a_train_fraction_leaves_validation_and_test_as_they_are(make, caplog):
    whole, part = make(), make(split=StratifiedSplit(train_fraction=0.5))
    for stage in ("val", "test"):
        rows = [data.table[data.table.split == stage].reset_index(drop=True) for data in (whole, part)]
        pd.testing.assert_frame_equal(*rows)
    assert abs(part.support("train") - whole.support("train") / 2).max() < 1
    assert part.class_counts.tolist() == part.support("train").tolist()
    together = [*part.table.recording_id, *part.left_out.recording_id]
    assert sorted(together) == sorted(whole.table.recording_id)
    said = part.summary()
    assert f"kept of train: {part.support('train').sum()} of 22 recordings (split.train_fraction=0.5" in said
    assert "left out by the split" not in said and whole.left_out.empty and not caplog.records


def test_classes_stay_where_a_fraction_would_empty_them(make, caplog):
    data = make(split=StratifiedSplit(train_fraction=0.01))
    assert data.support("train").tolist() == [1, 1, 1, 1] and len(data.classes) == 4
    assert "would leave 4 species without a train recording" in caplog.text and data.classes[0] in caplog.text


def test_class_counts_are_of_the_train_split_only(make, folder):
    split = ["train"] * 6 + ["val", "test"] + ["train"] + ["val"] * 4 + ["test"] * 3 + ["train", "val"] * 8
    data = make(with_split(folder, split), split=ColumnSplit())
    assert data.class_counts.tolist() == [6, 1, 4, 4]


def test_normalisation_is_of_the_train_split_only(make, folder):
    """Validation and test change places: nothing moves; train loses two recordings: it does."""
    stages = np.array(["train"] * 32, dtype=object)
    stages[[0, 8, 16, 24]] = "val"
    stages[[1, 9, 17, 25]] = "test"
    usual = make(with_split(folder, list(stages)), split=ColumnSplit()).features
    stages[[0, 8, 16, 24, 1, 9, 17, 25]] = ["test"] * 4 + ["val"] * 4
    swapped = make(with_split(folder, list(stages)), split=ColumnSplit()).features
    torch.testing.assert_close(usual.mean, swapped.mean, rtol=0, atol=0)
    stages[[2, 3]] = ["val", "test"]
    less = make(with_split(folder, list(stages)), split=ColumnSplit()).features
    assert (less.mean - usual.mean).abs().max() > 1e-3


def test_train_features_are_normalised(make):
    data = make()
    bands = torch.cat(list(data._train_windows()))
    out = data.features(bands)
    torch.testing.assert_close(out.mean(dim=(0, 3)), torch.zeros(3, 20), atol=1e-3, rtol=0)
    torch.testing.assert_close(out.std(dim=(0, 3), correction=0), torch.ones(3, 20), atol=1e-3, rtol=0)


def test_an_epoch_has_every_train_recording_once(make):
    data = make()
    loader = data.train_dataloader()
    batches = list(loader)
    assert [len(batch.target) for batch in batches] == [5, 5, 5, 5, 2]
    seen = torch.cat([batch.recording for batch in batches]).tolist()
    assert sorted(seen) == data.table.row[data.table.split == "train"].tolist()
    target = dict(zip(data.table.row, data.targets, strict=True))
    assert torch.cat([batch.target for batch in batches]).tolist() == [target[row] for row in seen]
    assert batches[0].bands.shape == (5, 20, 500) and batches[0].bands.dtype == torch.float16


def epoch_of(loader, epoch: int) -> dict[int, torch.Tensor]:
    loader.sampler.set_epoch(epoch)
    return {int(r): bands for batch in loader for r, bands in zip(batch.recording, batch.bands, strict=True)}


def test_windows_do_not_depend_on_batches_or_workers(make):
    usual = epoch_of(make(batch_size=5).train_dataloader(), 3)
    for settings in ({"batch_size": 22}, {"batch_size": 4, "num_workers": 2}):
        other = epoch_of(make(**settings).train_dataloader(), 3)
        assert usual.keys() == other.keys()
        assert all(torch.equal(usual[row], other[row]) for row in usual)


def test_workers_keep_the_order(make):
    alone, helped = (make(num_workers=n).train_dataloader() for n in (0, 2))
    for epoch in range(2):  # the workers persist from one epoch to the next
        for loader in (alone, helped):
            loader.sampler.set_epoch(epoch)
        for one, two in zip(alone, helped, strict=True):
            assert torch.equal(one.recording, two.recording) and torch.equal(one.bands, two.bands)


def test_epochs_and_seeds_differ(make):
    loader = make().train_dataloader()
    one, two = epoch_of(loader, 0), epoch_of(loader, 1)
    assert list(one) != list(two)
    assert any(not torch.equal(one[row], two[row]) for row in one)
    assert list(make(seed=2).table.split) != list(make(seed=1).table.split)


@pytest.mark.parametrize("policy", ["first", "center", "loudest", "all"])
def test_evaluation_is_the_same_every_time_in_the_tables_order(make, policy):
    data = make(window=WindowPolicy(eval=policy))
    for stage, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        once, twice = list(loader), list(loader)
        assert torch.cat([batch.recording for batch in once]).tolist() == list(
            data.table.row[data.table.split == stage]
        )
        assert all(torch.equal(a.bands, b.bands) for a, b in zip(once, twice, strict=True))


def test_the_window_policies_reach_the_loaders(make):
    first = make(window=WindowPolicy(train="first")).train_dataloader()
    one, two = epoch_of(first, 0), epoch_of(first, 1)
    assert all(torch.equal(one[row], two[row]) for row in one)
    windows = {
        policy: sum(len(batch.bands) for batch in make(window=WindowPolicy(eval=policy)).test_dataloader())
        for policy in ("center", "all")
    }
    assert windows["center"] == 5 < windows["all"]


def test_with_all_an_epoch_has_every_window_of_the_train_split_once(make):
    data = make(window=WindowPolicy(train="all"))
    loader = data.train_dataloader()
    train = data.table[data.table.split == "train"]
    starts, owner = window_starts("all", data.store, train.row.to_numpy(), data.features.frames)
    assert len(starts) > len(train)
    target = data.targets[data.table.split == "train"]
    expected = sorted(
        (int(train.row.iloc[k]), int(target[k]), data.store.frames[start : start + 500].tobytes())
        for start, k in zip(starts, owner, strict=True)
    )
    orders = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        seen = [
            (int(recording), int(target), bands.T.contiguous().numpy().tobytes())
            for batch in loader
            for recording, target, bands in zip(batch.recording, batch.target, batch.bands, strict=True)
        ]
        assert sorted(seen) == expected
        orders.append(seen)
    assert orders[0] != orders[1]


def test_with_bag_a_recording_is_drawn_with_all_its_windows_and_counted_once(make):
    usual, data = make(), make(window=WindowPolicy(train="bag"))
    assert torch.equal(data.class_counts, usual.class_counts)
    train = data.table[data.table.split == "train"]
    windows = -(-data.store.index.frames[train.row].to_numpy() // 500)
    seen: dict[int, int] = {}
    for batch in data.train_dataloader():
        assert len(batch.target) <= 5 and (batch.owner.diff() >= 0).all()
        seen |= dict(
            zip(batch.recording.tolist(), batch.owner.bincount(minlength=len(batch.target)).tolist(), strict=True)
        )
    assert seen == dict(zip(train.row.tolist(), windows.tolist(), strict=True)) and max(seen.values()) > 1


@pytest.mark.parametrize("train", ["random", "all"])
def test_a_sampler_changes_what_is_drawn_and_not_what_is_counted(make, folder, train):
    """Train has 3, 7, 7 and 7 recordings of the species; drawn balanced it gives 6 of each."""
    split = ["train"] * 3 + ["val"] * 3 + ["test"] * 2 + (["train"] * 7 + ["test"]) * 3
    window = WindowPolicy(train=train)
    usual, balanced = (
        make(with_split(folder, split), split=ColumnSplit(), window=window, **more)
        for more in ({}, {"sampler": Power(0)})
    )
    target = torch.cat([batch.target for batch in balanced.train_dataloader()])
    assert len(target) == int(usual.class_counts.sum())
    drawn = torch.bincount(target)
    assert int(drawn.max() - drawn.min()) <= 1 and usual.class_counts.tolist() != drawn.tolist()
    assert torch.equal(balanced.class_counts, usual.class_counts)
    assert torch.equal(torch.cat([b.target for b in balanced.val_dataloader()]),
                       torch.cat([b.target for b in usual.val_dataloader()]))  # fmt: skip


def test_with_all_classes_are_counted_by_windows_and_supported_by_recordings(make):
    usual, data = make(), make(window=WindowPolicy(train="all"))
    train = data.table[data.table.split == "train"]
    windows = -(-data.store.index.frames[train.row].to_numpy() // 500)
    assert (
        data.class_counts.tolist() == np.bincount(data.targets[data.table.split == "train"], weights=windows).tolist()
    )
    assert data.class_counts.sum() == windows.sum() > len(train)
    assert data.support("train").tolist() == usual.support("train").tolist() == usual.class_counts.tolist()
    assert sum(len(batch.bands) for batch in data.train_dataloader()) == windows.sum()
    assert data.summary() == usual.summary()


def test_species_that_cannot_be_evaluated_are_in_the_summary(make, folder):
    split = ["train", "val", "test", "train"] * 2 + ["train"] * 7 + ["val"] + ["train", "val", "test", "train"] * 4
    data = make(with_split(folder, split), split=ColumnSplit())
    assert "cannot be evaluated, no test recording: 1 species (crane)" in data.summary()
    assert "32 recordings of 4 species; 19 train, 7 val, 6 test; 4 to 7 train recordings a species" in data.summary()


def test_species_left_out_are_in_the_summary(make, folder):
    split = ["train", "val", "test", "train"] * 2 + [None] * 8 + ["train", "val", "test", "train"] * 4
    data = make(with_split(folder, split), split=ColumnSplit())
    assert data.classes == ("barn owl", "marsh tit", "wood lark")
    assert "left out, too few usable recordings: crane" in data.summary()
    assert "left out by the split: 8 usable recordings" in data.summary()
    assert "left out by the split" not in make(folder).summary()


def spoiled(tmp_path, tone):
    for species, hz in {"robin": 4500.0, "wren": 6000.0}.items():
        for n in range(4):
            tone(tmp_path / "in" / species / f"{n}.wav", hz=hz)
    (tmp_path / "in" / "robin" / "2.wav").write_text("no sound")
    return folder_catalog(str(tmp_path / "in"))


def test_unusable_recordings_are_set_aside_and_counted(make, tmp_path, tone):
    catalog = spoiled(tmp_path, tone)
    data = make(catalog, store_dir=tmp_path / "stores")
    assert list(data.rejected.recording_id) == ["robin/2.wav"]
    assert len(data.table) == 7 and "robin/2.wav" not in set(data.table.recording_id)
    assert "set aside as unusable: 1 recordings (audit.csv)" in data.summary()
    used = {int(r) for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
            for batch in loader for r in batch.recording}  # fmt: skip
    assert used == {0, 1, 3, 4, 5, 6, 7}  # rows of the catalog


def test_what_was_measured_joins_the_table(make, folder):
    data = make()
    assert data.audit.recording_id.tolist() == folder.table.recording_id.tolist()
    audit = data.audit.set_index("recording_id").loc[data.table.recording_id]
    assert data.table.duration_s.tolist() == audit.duration_s.tolist()
    assert data.table.duration_s[:8].round(1).tolist() == [0.6, 1.6, 2.6, 3.6, 4.6, 5.6, 6.6, 7.6]
    assert data.table.sample_rate_hz.tolist() == audit.native_rate_hz.tolist() == [32_000] * 32
    assert data.table.audio_hash.tolist() == audit.audio_hash.tolist()
    assert data.table.audio_hash.nunique() == 32
    assert data.rejected.empty


def test_what_was_measured_stays_with_its_recording_when_others_are_set_aside(make, tmp_path, tone):
    data = make(spoiled(tmp_path, tone), store_dir=tmp_path / "stores")
    audit = data.audit.set_index("recording_id")
    assert data.table.audio_hash.tolist() == audit.audio_hash[data.table.recording_id].tolist()
    assert audit.audio_hash["robin/2.wav"] == "" and "" not in set(data.table.audio_hash)


def test_the_rules_decide_before_the_split(make, folder):
    data = make(audit=Rules(min_duration_s=2.0))
    short = folder.table.recording_id[[0, 1, 8, 9, 16, 17, 24, 25]]
    assert data.rejected.recording_id.tolist() == short.tolist()
    assert data.rejected.problems.unique().tolist() == ["too_short"]
    assert len(data.table) == 24 and not set(data.table.recording_id) & set(short)
    assert data.table.split.value_counts().to_dict() == {"train": 16, "val": 4, "test": 4}
    assert "set aside as unusable: 8 recordings (audit.csv)" in data.summary()


def test_a_column_split_does_not_bring_a_rejected_recording_back(make, folder):
    stages = ["train", "val", "test", "train"] * 8
    data = make(with_split(folder, stages), split=ColumnSplit(), audit=Rules(min_duration_s=2.0))
    assert len(data.rejected) == 8 and not set(data.table.recording_id) & set(data.rejected.recording_id)
    assert data.table.split.tolist() == ["test", "train", *["train", "val", "test", "train"]] * 4


def test_a_repeat_of_a_recording_is_set_aside(make, tmp_path, tone):
    catalog = spoiled(tmp_path, tone)
    (tmp_path / "in" / "wren" / "again.wav").write_bytes((tmp_path / "in" / "wren" / "1.wav").read_bytes())
    data = make(folder_catalog(str(tmp_path / "in")), store_dir=tmp_path / "stores")
    assert data.rejected.recording_id.tolist() == ["robin/2.wav", "wren/again.wav"]
    assert data.rejected.reason.iloc[1] == "is the same sound as wren/1.wav"
    assert len(data.table) == len(catalog) - 1


def test_doubtful_recordings_are_used_and_counted(make, tmp_path, tone):
    spoiled(tmp_path, tone)
    tone(tmp_path / "in" / "wren" / "loud.wav", hz=5000.0, level=3.0)
    data = make(folder_catalog(str(tmp_path / "in")), store_dir=tmp_path / "stores")
    doubtful = data.audit[data.audit.verdict == "warn"]
    assert doubtful.recording_id.tolist() == ["wren/loud.wav"] and doubtful.problems.tolist() == ["clipped"]
    assert "wren/loud.wav" in set(data.table.recording_id)
    assert "used with a warning: 1 recordings (audit.csv)" in data.summary()


def test_a_source_without_a_usable_recording_is_refused_with_the_first_reason(make, tmp_path, tone):
    for name in ("robin/0", "wren/0"):
        tone(tmp_path / "in" / f"{name}.wav", seconds=0.1)
    (tmp_path / "in" / "robin" / "0.wav").write_text("no sound")
    words = (
        r"folder in: none of the 2 recordings can be used; first, robin/0\.wav cannot be decoded \(.*birdclf prepare"
    )
    for _ in range(2):  # the second time the store is there
        with pytest.raises(UserError, match=words):
            make(folder_catalog(str(tmp_path / "in")), store_dir=tmp_path / "stores")


def test_a_split_file_may_name_an_unusable_recording(make, tmp_path, tone):
    """One bad recording never stops a job: the split is of the source, the recording is set aside."""
    catalog = spoiled(tmp_path, tone)
    stages = ["train", "val", "train", "test"] * 2
    catalog.table.assign(split=stages)[["recording_id", "split"]].to_csv(tmp_path / "split.csv", index=False)
    data = make(catalog, split=FileSplit(str(tmp_path / "split.csv")), store_dir=tmp_path / "stores")
    assert len(data.table) == 7 and list(data.rejected.recording_id) == ["robin/2.wav"]


def test_a_split_of_other_recordings_is_refused(make, folder, tmp_path):
    (tmp_path / "split.csv").write_text(f"recording_id,split\n{folder.table.recording_id[0]},train\nzzz,test\n")
    with pytest.raises(UserError, match="names 1 recordings that .* does not have, first 'zzz'"):
        make(split=FileSplit(str(tmp_path / "split.csv")))


def test_one_species_is_refused(make, folder):
    split = [None] * 8 + ["train", "val", "test", "train"] * 2 + [None] * 16
    with pytest.raises(UserError, match="has 1 species to tell apart: crane; a classifier needs at least 2"):
        make(with_split(folder, split), split=ColumnSplit())


def test_a_stage_without_recordings_is_refused(make, folder):
    split = pd.Series(["train", "val"] * 16)
    with pytest.raises(UserError, match="given: the test split holds no recording"):
        make(with_split(folder, list(split)), split=ColumnSplit())


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("num_workers", -1)])
def test_bad_settings_are_refused(make, name, value):
    with pytest.raises(UserError, match=rf"loader\.{name} is {value}"):
        make(prepare=False, **{name: value})


def test_files_with_clips_on_two_sides_are_warned_of(make, folder, caplog):
    straddling = folder.table.assign(start_s=0.0, end_s=0.5)
    straddling.loc[1, ["path", "start_s"]] = [straddling.path[0], 0.1]
    split = ["train", "test", "val"] + ["train"] * 29
    make(Catalog(straddling.assign(split=split), folder.reader, "clips"), split=ColumnSplit())
    assert "1 of 31 files have clips in more than one split" in caplog.text and "split=grouped" in caplog.text
    caplog.clear()
    make()
    assert "more than one split" not in caplog.text
