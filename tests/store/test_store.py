import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import torch
from noise_catalog import RATE, Sums, contents, noise_catalog

from birdclf import files as lock
from birdclf.audio.mixing import Mix
from birdclf.audio.resampling import read_waveform
from birdclf.audit.measure import Measurement
from birdclf.data.catalog import Catalog
from birdclf.data.sources.folder import folder_catalog
from birdclf.errors import UserError
from birdclf.features.mfcc import MFCCStack
from birdclf.store import plan as journal
from birdclf.store.open import open_store


def leftovers(root) -> list[str]:
    return sorted(name for name in os.listdir(root) if not name.endswith(".lock"))


def test_values_equal_direct_analysis_in_float16(tmp_path):
    made, stack = noise_catalog(3), MFCCStack()
    opened = open_store(made, stack, tmp_path, workers=0)
    assert list(opened.index.recording_id) == list(made.table.recording_id)
    assert opened.frames.dtype == opened.level_db.dtype == np.float16
    assert opened.frames.shape == (opened.index.frames.sum(), 20) and len(opened.level_db) == len(opened.frames)
    assert not opened.frames.flags.writeable
    end = 0
    for clip, row in zip(made.clips(), opened.index.itertuples(), strict=True):
        wave = read_waveform(made.reader, clip, RATE)
        direct = stack.analyse(torch.from_numpy(wave))
        assert row.offset == end and row.frames == max(500, len(wave) // 320)
        end = row.offset + row.frames
        np.testing.assert_array_equal(opened.frames[row.offset : end], direct.bands.T.half().numpy())
        np.testing.assert_array_equal(opened.level_db[row.offset : end], direct.level_db.half().numpy())


def test_the_index_holds_what_was_measured(tmp_path):
    index = open_store(noise_catalog(3, bad=("r001",)), Sums(), tmp_path, workers=0).index
    names = [field.name for field in fields(Measurement)]
    assert list(index.columns) == ["recording_id", "offset", "frames", *names]
    assert index.duration_s.tolist() == [4.0, 0.0, 5.0] and index.native_rate_hz.tolist() == [RATE, 0, RATE]
    assert index.channels.tolist() == [1, 0, 1]
    assert index.rms[[0, 2]].to_list() == pytest.approx([0.1, 0.1], rel=0.01) and np.isnan(index.rms[1])
    assert index.audio_hash[0] != index.audio_hash[2] and index.audio_hash[1] == ""


def test_a_store_is_opened_again_and_not_built_again(tmp_path):
    log = tmp_path / "log"
    made = noise_catalog(3, log=str(log))
    first = open_store(made, Sums(), tmp_path / "stores", workers=0)
    before = contents(first.folder)
    second = open_store(made, Sums(), tmp_path / "stores", workers=0)
    assert len(log.read_text().splitlines()) == 3
    assert second.folder == first.folder and contents(second.folder) == before
    pd.testing.assert_frame_equal(first.index, second.index)


def test_a_finished_store_is_opened_without_writing(tmp_path, monkeypatch):
    """As from a medium that can only be read, which root would not notice."""
    made = noise_catalog(2)
    first = open_store(made, Sums(), tmp_path / "stores", workers=0)
    for file in (tmp_path / "stores").glob("*.lock"):
        file.unlink()
    before = [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*"))]
    monkeypatch.setattr(lock, "FileLock", None)
    assert open_store(made, Sums(), tmp_path / "stores", workers=0).folder == first.folder
    assert [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*"))] == before


@pytest.mark.parametrize(
    "other",
    [
        (noise_catalog(2, setting="louder"), Sums()),
        (noise_catalog(3), Sums()),
        (noise_catalog(2), Sums(scale=2.0)),
    ],
)
def test_another_setting_is_another_store(tmp_path, other):
    one = open_store(noise_catalog(2), Sums(), tmp_path, workers=0)
    two = open_store(*other, tmp_path, workers=0)
    assert one.folder != two.folder
    assert one.folder.is_dir() and two.folder.is_dir()


def test_another_mix_is_another_store(tmp_path):
    usual, louder = (open_store(noise_catalog(1), Sums(), tmp_path, 0, mix) for mix in (None, Mix(gain="peak")))
    assert usual.folder != louder.folder
    assert open_store(noise_catalog(1), Sums(), tmp_path, 0, Mix()).folder == usual.folder
    scale = louder.frames[:10].astype(float) / usual.frames[:10]
    np.testing.assert_allclose(scale, 1 / usual.index.peak[0], rtol=0.01)
    assert louder.index.peak[0] == usual.index.peak[0]  # measured before it is mixed


def test_labels_and_deltas_share_a_store(tmp_path):
    made = noise_catalog(1)
    renamed = Catalog(made.table.assign(species=["a"]), made.reader, "renamed")
    one = open_store(made, MFCCStack(), tmp_path, workers=0)
    assert open_store(renamed, MFCCStack(delta_width=5), tmp_path, workers=0).folder == one.folder


def test_the_store_says_what_it_holds(tmp_path):
    made = noise_catalog(2)
    opened = open_store(made, Sums(), tmp_path, 0, Mix(channel="left"))
    meta = json.loads((opened.folder / "meta.json").read_text())
    assert meta["recordings"] == 2 and meta["n_bands"] == 2 and meta["catalog_hash"] == made.content_hash
    assert meta["features"] == Sums().fingerprint() and meta["reader"] == made.reader.fingerprint()
    assert meta["mix"] == Mix(channel="left").fingerprint()


def test_a_finished_store_holds_four_files(tmp_path):
    opened = open_store(noise_catalog(2), Sums(), tmp_path, workers=0)
    assert list(contents(opened.folder)) == ["frames.f16", "index.parquet", "level.f16", "meta.json"]
    assert leftovers(tmp_path) == [opened.folder.name]


def test_unusable_recordings_are_listed_with_their_reason(tmp_path):
    opened = open_store(noise_catalog(4, bad=("r001", "r003")), Sums(), tmp_path, workers=0)
    assert opened.index.error.tolist() == ["", "undecodable", "", "undecodable"]
    assert opened.index.reason.tolist() == ["", "is broken", "", "is broken"]
    assert list(opened.index.frames) == [400, 0, 500, 0]
    assert opened.index.offset[2] == 400
    assert len(opened.frames) == 900


def test_bad_files_among_good_ones_are_kept_apart(tmp_path, tone):
    root = tmp_path / "in"
    tone(root / "robin" / "good.wav")
    tone(root / "robin" / "nothing.wav", seconds=0.0)
    (root / "robin" / "text.wav").write_text("no sound")
    (root / "robin" / "void.wav").touch()
    index = open_store(folder_catalog(str(root)), Sums(), tmp_path / "out", workers=0).index.set_index("recording_id")
    assert index.error.to_dict() == {
        "robin/good.wav": "",
        "robin/nothing.wav": "empty",
        "robin/text.wav": "undecodable",
        "robin/void.wav": "undecodable",
    }
    assert "cannot be decoded" in index.reason["robin/text.wav"]
    assert "not a sound file that can be read (it is empty" in index.reason["robin/void.wav"]
    assert index.frames.tolist() == [100, 0, 0, 0]


def test_a_build_that_ends_early_resumes_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "KEEP_EVERY_S", -1.0)
    log = tmp_path / "log"
    broken = noise_catalog(4, deadly="r002")  # deadly is not in the fingerprint: the same store
    with pytest.raises(KeyboardInterrupt):
        open_store(broken, Sums(), tmp_path / "stores", workers=0)
    (building,) = leftovers(tmp_path / "stores")
    lines = (tmp_path / "stores" / building / journal.JOURNAL).read_text().splitlines()
    assert [json.loads(line)["recording_id"] for line in lines] == ["r000", "r001"]
    opened = open_store(noise_catalog(4, log=str(log)), Sums(), tmp_path / "stores", workers=0)
    assert building == f".{opened.folder.name}.building"
    assert log.read_text().split() == ["r002", "r003"]
    assert leftovers(tmp_path / "stores") == [opened.folder.name]
    undisturbed = open_store(noise_catalog(4), Sums(), tmp_path / "other", workers=0)
    assert contents(opened.folder) == contents(undisturbed.folder)


def test_what_a_build_killed_outright_left_is_cleared_away(tmp_path):
    name = open_store(noise_catalog(2), Sums(), tmp_path / "a", workers=0).folder.name
    stale = tmp_path / "b" / f".{name}.tasks.abc"
    stale.mkdir(parents=True)
    (stale / "0.frames").write_bytes(b"half")
    others = tmp_path / "b" / ".othername.tasks.abc"
    others.mkdir()
    open_store(noise_catalog(2), Sums(), tmp_path / "b", workers=0)
    assert leftovers(tmp_path / "b") == sorted([others.name, name])  # another build's folder is not ours


def test_concurrent_builds_make_one_store(tmp_path):
    log = tmp_path / "log"
    made = noise_catalog(5, log=str(log))
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(open_store, made, Sums(), tmp_path / "stores", 0) for _ in range(2)]
        one, two = (job.result() for job in jobs)
    assert one.folder == two.folder
    assert sorted(log.read_text().split()) == sorted(made.table.recording_id)  # each recording was read once
    np.testing.assert_array_equal(one.frames, two.frames)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/stores/\w+ cannot be written.*store\.dir"):
        open_store(noise_catalog(2), Sums(), tmp_path / "file" / "stores", workers=0)


def test_others_may_read_the_store(tmp_path):
    opened = open_store(noise_catalog(2), Sums(), tmp_path, workers=0)
    assert opened.folder.stat().st_mode & 0o777 == 0o755


def test_an_opened_store_can_be_sent_to_a_worker(tmp_path):
    opened = open_store(noise_catalog(2), Sums(), tmp_path, workers=0)
    again = pickle.loads(pickle.dumps(opened))
    np.testing.assert_array_equal(again.frames, opened.frames)
