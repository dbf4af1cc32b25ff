"""Vectors computed elsewhere: read from any of their files, checked, and stored by recording and begin."""

import json
import logging
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from birdclf.audio.clip import Clip
from birdclf.audit.rules import Rules
from birdclf.data.catalog import Catalog
from birdclf.errors import UserError
from birdclf.features.embedders.vectors import PrecomputedVectors, read_vectors
from birdclf.store.open import FeatureStore, open_store

WIDTH = 3


def rows_of(catalog: Catalog) -> pd.DataFrame:
    """Return two windows a recording, with vectors of their own, in no order."""
    rows = [
        (name, start, start + 0.5, np.array([i, start, -1], np.float32))
        for i, name in enumerate(catalog.table.recording_id)
        for start in (0.0, 0.1)
    ]
    table = pd.DataFrame(rows, columns=["recording_id", "start_s", "end_s", "vector"])
    return table.sample(frac=1, random_state=0, ignore_index=True)


def as_lists(table: pd.DataFrame, file: Path) -> Path:
    table.to_parquet(file := file.with_suffix(".parquet"))
    return file


def as_doubles_of_fixed_size(table: pd.DataFrame, file: Path) -> Path:
    kind = pa.list_(pa.float64(), WIDTH)
    columns = [pa.array(table[name]) for name in ("recording_id", "start_s", "end_s")]
    columns.append(pa.array([list(map(float, one)) for one in table.vector], kind))
    pq.write_table(pa.table(columns, [*table.columns]), file := file.with_suffix(".parquet"), row_group_size=7)
    return file


def as_arrays(table: pd.DataFrame, file: Path) -> Path:
    ids = table.recording_id.to_numpy(dtype=str)
    vectors = np.stack(list(table.vector)).astype(np.float16)
    np.savez(
        file := file.with_suffix(".npz"), recording_id=ids, start_s=table.start_s, end_s=table.end_s, vector=vectors
    )
    return file


def as_predicted(table: pd.DataFrame, root: Path, out: Path) -> Path:
    """Write the folder of ``birdclf predict --out DIR --embeddings`` for recordings below a root."""
    lines = []
    for name, windows in table.groupby("recording_id"):
        file = out / "embeddings" / f"{name}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        vectors = np.stack(list(windows.vector))
        np.savez(file, start_s=windows.start_s, end_s=windows.end_s, embeddings=vectors)
        lines.append(json.dumps({"file": str((root / str(name)).resolve()), "name": name}))
    (out / "predict.jsonl").write_text("\n".join(lines) + "\n")
    return out


def vectors_of(store: FeatureStore, name: str) -> np.ndarray:
    row = store.index.set_index("recording_id").loc[name]
    return store.frames[row.offset : row.offset + row.frames]


def check_stored(store: FeatureStore, catalog: Catalog) -> None:
    for i, name in enumerate(catalog.table.recording_id):
        np.testing.assert_allclose(vectors_of(store, name), [[i, 0, -1], [i, 0.1, -1]], atol=1e-4)


@pytest.mark.parametrize(
    ("write", "workers"),
    [(as_lists, 0), (as_doubles_of_fixed_size, 0), pytest.param(as_arrays, 2, marks=pytest.mark.slow)],
)
def test_every_file_gives_the_vectors_by_recording_and_begin(folder, tmp_path, write, workers):
    features = PrecomputedVectors(str(write(rows_of(folder), tmp_path / "vectors")))
    assert features.shape == (WIDTH,) and features.frames == 1
    store = open_store(folder, features, tmp_path / "store", workers=workers)
    check_stored(store, folder)
    assert store.frames.dtype == np.float32 and (store.index.duration_s > 0.5).all() and (store.index.error == "").all()
    assert not list((tmp_path / "store").glob(".*"))  # nothing that workers shared is left


def test_the_folder_of_predict_is_matched_by_the_files_or_by_the_ids(folder, folder_root, tmp_path):
    out = as_predicted(rows_of(folder), folder_root, tmp_path / "out")
    check_stored(open_store(folder, PrecomputedVectors(str(out)), tmp_path / "store", workers=0), folder)
    moved = as_predicted(rows_of(folder), tmp_path / "elsewhere", tmp_path / "moved")
    check_stored(open_store(folder, PrecomputedVectors(str(moved)), tmp_path / "other", workers=0), folder)


def test_of_an_interval_of_a_file_the_windows_count_whose_middle_lies_in_it(tmp_path):
    starts = np.arange(10.0)
    vectors = [np.full(WIDTH, start) for start in starts]
    table = pd.DataFrame({"recording_id": "a.wav", "start_s": starts, "end_s": starts + 3, "vector": vectors})
    found = read_vectors(as_predicted(table, tmp_path, tmp_path / "out"))
    clips = [Clip("one", str(tmp_path / "a.wav"), 2.0, 5.0), Clip("two", str(tmp_path / "a.wav"), 20.0, 25.0)]
    held = found.of(clips)
    assert held.recording_id.tolist() == ["one"] * 3
    assert found.vectors[held.row][:, 0].tolist() == [1.0, 2.0, 3.0]  # middles at 2.5, 3.5 and 4.5 s
    assert held.start_s.tolist() == [0.0, 0.0, 1.0] and held.end_s.tolist() == [2.0, 3.0, 4.0]


def test_recordings_without_vectors_are_set_aside_with_the_reason(folder, tmp_path):
    table = rows_of(folder)
    none, late = folder.table.recording_id[[0, 5]]
    table = table[table.recording_id != none]
    table.loc[table.recording_id == late, ["start_s", "end_s"]] += 1_000
    store = open_store(folder, PrecomputedVectors(str(as_lists(table, tmp_path / "v"))), tmp_path / "store", workers=0)
    audit = Rules().judge(store.index, folder.table).set_index("recording_id")
    assert audit.verdict[[none, late]].tolist() == ["reject"] * 2
    assert audit.problems[[none, late]].tolist() == ["no_vector"] * 2
    assert "has no vector in" in audit.reason[none] and "after its end" in audit.reason[late]
    assert audit.duration_s[none] > 0.5 and (audit.verdict != "reject").sum() == len(folder) - 2
    assert store.index.frames.tolist() == [0 if name in (none, late) else 2 for name in store.index.recording_id]


def test_vectors_of_other_recordings_are_named_and_none_at_all_is_refused(folder, tmp_path, caplog):
    table = rows_of(folder)
    first = table.recording_id.isin(table.recording_id.drop_duplicates()[:8])
    more = table[first].assign(recording_id=[f"strange {name}" for name in table.recording_id[first]])
    features = PrecomputedVectors(str(as_lists(pd.concat([table, more]), tmp_path / "v")))
    with caplog.at_level(logging.WARNING):
        check_stored(open_store(folder, features, tmp_path / "store", workers=0), folder)
    assert "8 recordings that this source does not have: 'strange " in caplog.text
    with pytest.raises(
        UserError, match=r"no vector of any of the 32 recordings.*'strange .* and 5 more; the source has"
    ):
        open_store(folder, PrecomputedVectors(str(as_lists(more, tmp_path / "w"))), tmp_path / "store", workers=0)


def test_the_store_is_that_of_the_content(folder, tmp_path):
    file = as_lists(rows_of(folder), tmp_path / "v")
    features = PrecomputedVectors(str(file))
    copied = PrecomputedVectors(shutil.copy(file, tmp_path / "copy.parquet"))
    assert copied.fingerprint() == features.fingerprint()
    other = rows_of(folder)
    other.loc[0, "start_s"] += 0.01
    assert PrecomputedVectors(str(as_lists(other, tmp_path / "w"))).fingerprint() != features.fingerprint()
    out = as_predicted(rows_of(folder), tmp_path, tmp_path / "out")
    before = PrecomputedVectors(str(out)).fingerprint()
    part = next((out / "embeddings").rglob("*.npz"))
    np.savez(part, **{**np.load(part), "start_s": np.array([0.0, 0.2])})
    assert PrecomputedVectors(str(out)).fingerprint() != before


def test_worker_processes_are_not_sent_the_vectors(folder, tmp_path):
    table = rows_of(folder).assign(vector=[np.zeros(10_000, np.float32)] * 2 * len(folder))
    features = PrecomputedVectors(str(as_lists(table, tmp_path / "v")))
    features.begin_store(folder.clips(), tmp_path)
    assert len(pickle.dumps(features)) < 4 * features.mean.nbytes


def test_the_level_is_that_of_the_sound_in_the_window(tmp_path):
    sound = torch.zeros(3 * 32_000)
    sound[64_000:] = 0.1 * torch.randn(32_000, generator=torch.Generator().manual_seed(0))
    starts = np.array([0.0, 1.0, 2.0, 2.9])
    vectors = [np.zeros(WIDTH)] * 4
    table = pd.DataFrame({"recording_id": "a", "start_s": starts, "end_s": starts + 1, "vector": vectors})
    features = PrecomputedVectors(str(as_lists(table, tmp_path / "v")))
    features.begin_store([Clip("a")], tmp_path)
    (analysis,) = features.analyse_recording("a", sound.split(10_000))
    silent, middle, loud, end = analysis.level_db.tolist()
    assert silent == -100 and middle < loud - 10 and loud == pytest.approx(end, abs=3)


def test_a_checkpoint_needs_no_file_until_a_store_is_built(folder, tmp_path):
    file = as_lists(rows_of(folder), tmp_path / "v")
    settings = PrecomputedVectors(str(file)).settings
    file.unlink()
    features = PrecomputedVectors(**settings)
    assert features.shape == (WIDTH,) and features.settings == settings
    with pytest.raises(
        UserError, match=rf"v.parquet does not exist. Its content had the hash {settings['content_hash']}"
    ):
        open_store(folder, features, tmp_path / "store", workers=0)
    as_lists(rows_of(folder).iloc[1:], file)
    with pytest.raises(UserError, match="has changed"):
        PrecomputedVectors(**settings)


def test_new_sound_is_refused(folder, tmp_path):
    features = PrecomputedVectors(str(as_lists(rows_of(folder), tmp_path / "v")))
    for use in (features.check_new_sound, lambda: features.analyse(torch.zeros(9_999))):
        with pytest.raises(UserError, match=r"computed elsewhere \(.*v.parquet\).*for new sound"):
            use()


def reversed_times(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(end_s=table.end_s.where(table.index != 3, -1.0))


def with_value(value: float):
    def changed(table: pd.DataFrame) -> pd.DataFrame:
        vectors = [np.array([0, value, 0], np.float32) if i == 4 else one for i, one in enumerate(table.vector)]
        return table.assign(vector=vectors)

    return changed


def of_two_widths(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(vector=[one[:2] if i == 5 else one for i, one in enumerate(table.vector)])


@pytest.mark.parametrize(
    ("change", "row", "said"),
    [
        (reversed_times, 3, "1 windows do not end after they begin.*first '{}', 0.* to -1 s"),
        (lambda t: t.assign(start_s=t.start_s.where(t.index != 2, -0.5)), 2, "begin, at 0 s or later, first '{}'"),
        (lambda t: t.assign(end_s=np.inf), 0, "64 windows do not end"),
        (with_value(np.nan), 4, "1 vectors of 1 recordings hold a value that is not finite: '{}'"),
        (with_value(np.inf), 4, "not finite: '{}'"),
        (of_two_widths, 5, "vectors of 2 widths: 2 values in '{}'; 3 values in '.* and 29 more"),
        (lambda t: t.drop(columns="end_s"), 0, "lacks end_s; it has recording_id, start_s, vector"),
        (lambda t: t.assign(vector=t.start_s), 0, "column vector is of double; it must be lists of numbers"),
        (lambda t: t.assign(vector=[["a", "b"]] * len(t)), 0, "vectors must be numbers"),
        (lambda t: t.assign(start_s=t.start_s.where(t.index != 1)), 1, "1 cells of the column start_s are empty"),
        (lambda t: t.assign(start_s="soon"), 0, "start_s and end_s must be numbers of seconds"),
    ],
)
def test_what_is_wrong_in_a_parquet_file_is_said_with_the_recording(folder, tmp_path, change, row, said):
    table = rows_of(folder)
    file = as_lists(change(table), tmp_path / "v")
    with pytest.raises(UserError, match=said.format(table.recording_id[row])) as error:
        PrecomputedVectors(str(file))
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.parquet", None, "does not exist. Give a Parquet or .npz file"),
        ("broken.parquet", b"PAR1 and no more", "cannot be read"),
        ("broken.npz", b"PK no", "cannot be read"),
        ("text.csv", b"a,b\n", "must end in .parquet or .npz"),
        ("pointer.parquet", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        PrecomputedVectors(str(tmp_path / name))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"vector": None}, "lacks vector"),
        ({"recording_id": np.array(["a", 2], dtype=object)}, "cannot be read.*ids.astype"),
        ({"vector": np.array([[1.0, 2.0], [1.0]], dtype=object)}, "cannot be read.*one array"),
        ({"vector": np.zeros((3, 2))}, r"vectors are float64 \(3, 2\)"),
        ({"vector": np.zeros(2)}, r"must be numbers \(N, E\)"),
        (
            {
                "recording_id": np.empty(0, str),
                "vector": np.empty((0, 4)),
                "start_s": np.empty(0),
                "end_s": np.empty(0),
            },
            "holds no vector",
        ),
        ({"start_s": np.array([0.0, np.nan])}, "1 windows do not end after they begin.*first 'b'"),
    ],
)
def test_what_is_wrong_in_arrays_is_said(tmp_path, changed, said):
    arrays = {"recording_id": np.array(["a", "b"]), "start_s": np.zeros(2), "end_s": np.ones(2)}
    arrays = {"vector": np.zeros((2, 4)), **arrays} | changed
    np.savez(tmp_path / "v.npz", **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(UserError, match=said):
        PrecomputedVectors(str(tmp_path / "v.npz"))


def test_a_folder_without_vectors_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"no folder of birdclf predict.*predict.jsonl"):
        PrecomputedVectors(str(tmp_path))
    out = as_predicted(rows_of(folder), tmp_path, tmp_path / "out")
    part = next((out / "embeddings").rglob("*.npz"))
    np.savez(part, start_s=np.zeros(1), end_s=np.ones(1), embeddings=np.zeros((1, 2)))
    with pytest.raises(UserError, match=r"vectors of 2 widths: 2 values in "):
        PrecomputedVectors(str(out))
    shutil.rmtree(out / "embeddings")
    with pytest.raises(UserError, match="Give birdclf predict --out DIR the option --embeddings"):
        PrecomputedVectors(str(out))


def test_a_window_that_is_there_twice_is_refused(folder, tmp_path):
    table = rows_of(folder)
    file = as_lists(pd.concat([table, table[:2]]), tmp_path / "twice")
    with pytest.raises(UserError, match=r"2 windows are there twice, first '.*Leave one vector for each"):
        PrecomputedVectors(str(file))
