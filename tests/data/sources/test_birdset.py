import io
import json
import os
import shutil
import tarfile
import threading

import layouts
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from birdclf.audio.resampling import read_waveform
from birdclf.data.sources.birdset import birdset_catalog
from birdclf.data.splits import FileSplit, GroupedSplit, KFoldSplit, StratifiedSplit
from birdclf.errors import UserError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder as it is written; tests copy it."""
    return layouts.birdset(tmp_path_factory.mktemp("written") / "BirdSet")


@pytest.fixture
def root(written, tmp_path):
    return shutil.copytree(written, tmp_path / "BirdSet")


@pytest.fixture
def table(root):
    return birdset_catalog(str(root)).table.set_index("recording_id")


def test_focal_recordings_and_segments(root, table):
    assert len(table) == 24 and set(table.species) == {*layouts.CODES, "none"}
    first = table.loc["train/XC0.ogg"]
    assert (first.labels, first.group, first.quality, first.genus) == (
        ("aldfly", "redcro"),
        "recordist 0",
        5,
        "Empidonax",
    )
    assert (first.latitude, first.longitude, first.published_split) == (37.1, -118.4, "train")
    segment = table.loc["test_5s/HSN_001_20150708_061805_010_015.ogg"]
    assert (segment.labels, segment.species, segment.group) == (
        ("aldfly", "redcro"),
        "redcro",
        "HSN_001_20150708_061805",
    )
    assert segment.published_split == "test" and segment.genus == "Loxia"
    empty = table.loc["test_5s/HSN_001_20150708_061805_005_010.ogg"]
    assert (empty.labels, empty.species, empty.genus) == ((), "none", "")
    made = birdset_catalog(str(root))
    assert {len(read_waveform(made.reader, clip, 32_000)) for clip in made.clips()} == {48_000, 160_000}
    made.table.to_parquet(root / "table.parquet")


def test_shards_are_unpacked_once(root):
    made = birdset_catalog(str(root))
    before = {path: path.stat().st_mtime_ns for path in (root / "HSN").rglob("*.ogg")}
    assert len(before) == 24 and (root / "HSN" / "HSN_train_shard_0002" / "XC1.ogg") in before
    for archive in (root / "HSN").glob("*.tar.gz"):
        archive.unlink()  # not needed any more
    assert birdset_catalog(str(root)).content_hash == made.content_hash
    assert {path: path.stat().st_mtime_ns for path in (root / "HSN").rglob("*.ogg")} == before


def test_a_stopped_unpacking_is_completed(root):
    part = root / "HSN" / ".HSN_train_shard_0001.part"
    part.mkdir()
    with tarfile.open(root / "HSN" / "HSN_train_shard_0001.tar.gz") as archive:
        archive.extract("XC0.ogg", part, filter="data")
    os.utime(part / "XC0.ogg", (1, 1))
    (part / "XC2.ogg").write_bytes(b"half")
    birdset_catalog(str(root))
    done = root / "HSN" / "HSN_train_shard_0001"
    assert not part.exists() and (done / "XC0.ogg").stat().st_mtime == 1 and (done / "XC2.ogg").stat().st_size > 100


def test_two_processes_unpack_at_once(root):
    made = []
    threads = [threading.Thread(target=lambda: made.append(len(birdset_catalog(str(root))))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [24, 24, 24]


def test_a_member_that_leaves_the_folder_is_refused(root):
    with tarfile.open(root / "HSN" / "HSN_train_shard_0002.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("../../outside.ogg")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    with pytest.raises(UserError, match=r"HSN_train_shard_0002\.tar\.gz cannot be unpacked: .*outside"):
        birdset_catalog(str(root))
    assert not (root / "outside.ogg").exists() and not (root / "HSN" / "HSN_train_shard_0002").exists()


@pytest.mark.parametrize("kept", [0, 5, 700])
def test_a_damaged_shard_is_refused(root, kept):
    archive = root / "HSN" / "HSN_test5s_shard_0001.tar.gz"
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"test5s_shard_0001\.tar\.gz cannot be unpacked: .*Download it again"):
        birdset_catalog(str(root))


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("HSN_metadata_train.parquet", r"HSN_metadata_train\.parquet does not exist"),
        ("HSN_metadata_test_5s.parquet", r"HSN_metadata_test_5s\.parquet does not exist"),
        ("HSN_test5s_shard_0001.tar.gz", r"HSN has no HSN_test5s_shard_0001\.tar\.gz"),
        ("HSN_train_shard_0002.tar.gz", r"9 of 18 recordings of train are in none of the shards .*first XC1\.ogg"),
    ],
)
def test_missing_files_are_named_with_the_way_to_fetch_them(root, gone, said):
    (root / "HSN" / gone).unlink()
    way = r".*huggingface-cli download DBD-research-group/BirdSet .*--include 'HSN/\*' --local-dir"
    with pytest.raises(UserError, match=said + way):
        birdset_catalog(str(root))


def test_a_part_of_the_recordings_is_enough_where_that_is_allowed(root):
    (root / "HSN" / "HSN_train_shard_0002.tar.gz").unlink()
    table = birdset_catalog(str(root), allow_absent=True).table
    assert len(table) == 24 and (table.stamp == "absent").sum() == 9


def test_other_configurations(root):
    with pytest.raises(UserError, match=r"has no folder POW \(data\.config\)\. Fetch"):
        birdset_catalog(str(root), "POW")
    with pytest.raises(UserError, match="is not a folder"):
        birdset_catalog(str(root / "nowhere"))
    folder = root / "XCM"
    folder.mkdir()
    shutil.copy(root / "HSN" / "HSN_metadata_train.parquet", folder / "XCM_metadata.parquet")
    for number in (1, 2):
        shutil.copy(root / "HSN" / f"HSN_train_shard_000{number}.tar.gz", folder / f"XCM_shard_000{number}.tar.gz")
    assert set(birdset_catalog(str(root), "XCM").table.published_split) == {"train"}


def test_numbers_of_classes_are_named_by_the_files_own_list(root):
    file = root / "HSN" / "HSN_metadata_train.parquet"
    given, names = pd.read_parquet(file), sorted(layouts.CODES)
    given["ebird_code"] = given.ebird_code.map(names.index)
    given["ebird_code_multilabel"] = given.ebird_code.map(lambda code: [code])
    given.to_parquet(file)
    with pytest.raises(UserError, match=r"ebird_code holds \[0\], numbers of classes whose names it does not have"):
        birdset_catalog(str(root))
    features = {"ebird_code": {"names": names}, "ebird_code_multilabel": {"feature": {"names": names}}}
    table = pa.Table.from_pandas(given)
    described = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pyarrow.parquet.write_table(table.replace_schema_metadata({**table.schema.metadata, **described}), file)
    assert set(birdset_catalog(str(root)).table.species) == {*names, "none"}


def test_choices_of_recordings_leave_the_segments(root):
    chosen = birdset_catalog(str(root), min_quality="A", max_per_species=1, secondary="mask").table
    assert chosen.published_split.value_counts().to_dict() == {"test": 6, "train": 3}
    train = chosen.set_index("recording_id").loc["train/XC0.ogg"]
    assert train.labels == ("aldfly",) and train.masked == ("redcro",)
    segments = chosen[chosen.published_split == "test"]
    assert segments.labels.map(len).max() == 2 and set(segments.masked) == {()}
    genera = birdset_catalog(str(root), label="genus", exclude=["Aix"]).table
    assert set(genera.species) == {"Empidonax", "Loxia", "none"}


@pytest.mark.parametrize("split", [StratifiedSplit(), GroupedSplit(), KFoldSplit(folds=3, grouped=True)])
def test_published_segments_are_the_test_split_and_validation_is_drawn(root, split):
    made = birdset_catalog(str(root))
    stages = split.stages_of(made, 1)
    table = made.table.set_index("recording_id").assign(stage=stages)
    assert stages.index.is_monotonic_increasing and len(stages) == 24
    assert set(table.stage[table.published_split == "test"]) == {"test"}
    assert set(table.stage[table.published_split == "train"]) == {"train", "val"}
    assert not split.stages_of(made, 2).equals(stages)


def test_a_split_file_decides_alone(root, tmp_path):
    (tmp_path / "split.csv").write_text("recording_id,split\ntrain/XC0.ogg,test\n")
    assert FileSplit(str(tmp_path / "split.csv")).stages_of(birdset_catalog(str(root)), 1).to_dict() == {
        "train/XC0.ogg": "test"
    }


def test_segments_with_names_of_their_own_are_groups_of_their_own(root):
    for name in ("HSN_metadata_test_5s.parquet", "HSN_metadata_train.parquet"):
        given = pd.read_parquet(root / "HSN" / name).reset_index()
        given.loc[0, "filepath"] = "made/nips4b_birds_file001.ogg"
        given.loc[0, "ebird_code"] = None
        given.to_parquet(root / "HSN" / name)
    table = birdset_catalog(str(root), allow_absent=True).table.set_index("recording_id")
    assert table.group["test_5s/nips4b_birds_file001.ogg"] == "nips4b_birds_file001"
    assert table.species["train/nips4b_birds_file001.ogg"] == "none"
