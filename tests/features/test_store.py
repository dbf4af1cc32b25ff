import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from birdclf.audio.clip import AudioError, Clip
from birdclf.catalog.catalog import Catalog
from birdclf.catalog.folder import folder_catalog
from birdclf.errors import UserError
from birdclf.features.mfcc import Analysis, MFCCStack
from birdclf.features.store import CLIPS_A_TASK, open_store
from birdclf.randomness import stream


@dataclass(frozen=True)
class NoiseReader:
    """Noise by name: half a second longer with each recording; a name in ``bad`` is refused, ``deadly`` breaks.

    With a ``log`` every reading appends a line to that file, whichever process reads.
    """

    bad: tuple[str, ...] = ()
    deadly: str = ""
    log: str = ""
    setting: str = ""

    def read(self, clip: Clip, sample_rate_hz: int) -> np.ndarray:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{clip.recording_id}\n")
        if clip.recording_id == self.deadly:
            raise KeyboardInterrupt
        if clip.recording_id in self.bad:
            raise AudioError("is broken")
        seconds = 4 + 0.5 * (int(clip.recording_id[1:]) % 6)
        wave = 0.1 * stream("noise", clip.recording_id).standard_normal(round(seconds * sample_rate_hz))
        return wave.astype(np.float32)

    def fingerprint(self) -> str:
        return f"noise {self.bad} {self.setting}"


@dataclass(frozen=True)
class Blocks:
    """Features that cost nothing: the two halves' sums of every hundredth of a second."""

    scale: float = 1.0
    sample_rate_hz: int = 32_000
    n_bands: int = 2

    def analyse(self, waveform: torch.Tensor) -> Analysis:
        blocks = waveform[: len(waveform) // 320 * 320].reshape(-1, 2, 160).sum(dim=2) * self.scale
        return Analysis(blocks.T, blocks.sum(dim=1))

    def fingerprint(self) -> str:
        return f"blocks {self.scale}"


def catalog(n: int = 6, **reader) -> Catalog:
    ids = [f"r{i:03d}" for i in range(n)]
    return Catalog(pd.DataFrame({"recording_id": ids, "species": "x"}), NoiseReader(**reader), "noise")


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def leftovers(root) -> list[str]:
    return [name for name in os.listdir(root) if not name.endswith(".lock")]


def test_values_equal_direct_analysis_in_float16(tmp_path):
    made, stack = catalog(3), MFCCStack()
    store = open_store(made, stack, tmp_path, workers=0)
    assert list(store.index.recording_id) == list(made.table.recording_id)
    assert store.frames.dtype == store.level_db.dtype == np.float16
    assert store.frames.shape == (store.index.frames.sum(), 20) and len(store.level_db) == len(store.frames)
    assert not store.frames.flags.writeable
    end = 0
    for clip, row in zip(made.clips(), store.index.itertuples(), strict=True):
        wave = made.reader.read(clip, 32_000)
        direct = stack.analyse(torch.from_numpy(wave))
        assert row.offset == end and row.frames == max(500, len(wave) // 320)
        assert row.duration_s == len(wave) / 32_000 and row.problem == ""
        end = row.offset + row.frames
        np.testing.assert_array_equal(store.frames[row.offset : end], direct.bands.T.half().numpy())
        np.testing.assert_array_equal(store.level_db[row.offset : end], direct.level_db.half().numpy())


def test_a_store_is_opened_again_and_not_built_again(tmp_path):
    log = tmp_path / "log"
    made = catalog(3, log=str(log))
    first = open_store(made, Blocks(), tmp_path / "stores", workers=0)
    before = contents(first.folder)
    second = open_store(made, Blocks(), tmp_path / "stores", workers=0)
    assert len(log.read_text().splitlines()) == 3
    assert second.folder == first.folder and contents(second.folder) == before
    pd.testing.assert_frame_equal(first.index, second.index)


@pytest.mark.parametrize(
    "other", [(catalog(2, setting="louder"), Blocks()), (catalog(3), Blocks()), (catalog(2), Blocks(scale=2.0))]
)
def test_another_setting_is_another_store(tmp_path, other):
    one = open_store(catalog(2), Blocks(), tmp_path, workers=0)
    two = open_store(*other, tmp_path, workers=0)
    assert one.folder != two.folder
    assert one.folder.is_dir() and two.folder.is_dir()


def test_labels_and_deltas_share_a_store(tmp_path):
    made = catalog(1)
    renamed = Catalog(made.table.assign(species=["a"]), made.reader, "renamed")
    one = open_store(made, MFCCStack(), tmp_path, workers=0)
    assert open_store(renamed, MFCCStack(delta_width=5), tmp_path, workers=0).folder == one.folder


def test_the_store_says_what_it_holds(tmp_path):
    made = catalog(2)
    store = open_store(made, Blocks(), tmp_path, workers=0)
    meta = json.loads((store.folder / "meta.json").read_text())
    assert meta["recordings"] == 2 and meta["n_bands"] == 2 and meta["catalog_hash"] == made.content_hash
    assert meta["features"] == Blocks().fingerprint() and meta["reader"] == made.reader.fingerprint()


def test_unusable_recordings_are_listed_with_their_reason(tmp_path):
    store = open_store(catalog(4, bad=("r001", "r003")), Blocks(), tmp_path, workers=0)
    assert store.rejected.to_dict("list") == {"recording_id": ["r001", "r003"], "problem": ["is broken"] * 2}
    assert list(store.index.frames) == [400, 0, 500, 0]
    assert store.index.offset[2] == 400
    assert len(store.frames) == 900


def test_bad_files_among_good_ones_are_set_aside(tmp_path, tone):
    root = tmp_path / "in"
    tone(root / "robin" / "good.wav")
    tone(root / "robin" / "short.wav", seconds=0.1)
    tone(root / "robin" / "silent.wav", level=0.0, noise=0.0)
    (root / "robin" / "text.wav").write_text("no sound")
    (root / "robin" / "void.wav").touch()
    rejected = open_store(folder_catalog(str(root)), Blocks(), tmp_path / "out", workers=0).rejected
    problems = dict(zip(rejected.recording_id, rejected.problem, strict=True))
    assert sorted(problems) == [f"robin/{name}.wav" for name in ("short", "silent", "text", "void")]
    assert "0.10 s" in problems["robin/short.wav"] and "silence" in problems["robin/silent.wav"]
    assert "cannot be decoded" in problems["robin/text.wav"] and "cannot be decoded" in problems["robin/void.wav"]


def test_no_usable_recording_is_a_users_mistake_every_time(tmp_path):
    for _ in range(2):  # the second time the store is there
        with pytest.raises(UserError, match="noise: none of the 2 recordings can be used; first, r000 is broken"):
            open_store(catalog(2, bad=("r000", "r001")), Blocks(), tmp_path, workers=0)


def test_a_killed_build_leaves_nothing_and_the_next_one_works(tmp_path):
    broken = catalog(4, deadly="r002")  # deadly is not in the fingerprint: the same store
    with pytest.raises(KeyboardInterrupt):
        open_store(broken, Blocks(), tmp_path, workers=0)
    assert leftovers(tmp_path) == []
    store = open_store(catalog(4), Blocks(), tmp_path, workers=0)
    assert leftovers(tmp_path) == [store.folder.name]


def test_what_a_build_killed_outright_left_is_cleared_away(tmp_path):
    name = open_store(catalog(2), Blocks(), tmp_path / "a", workers=0).folder.name
    stale = tmp_path / "b" / f".{name}.abc"
    stale.mkdir(parents=True)
    (stale / "frames.f16").write_bytes(b"half")
    half = tmp_path / "b" / ".othername.abc"
    half.mkdir()
    open_store(catalog(2), Blocks(), tmp_path / "b", workers=0)
    assert sorted(leftovers(tmp_path / "b")) == sorted([half.name, name])  # another build's folder is not ours


def test_workers_give_the_same_bytes(tmp_path):
    made = catalog(2 * CLIPS_A_TASK + 3, bad=("r005", "r020"))
    alone = open_store(made, Blocks(), tmp_path / "0", workers=0)
    together = open_store(made, Blocks(), tmp_path / "2", workers=2)
    assert contents(alone.folder) == contents(together.folder)


def test_concurrent_builds_make_one_store(tmp_path):
    log = tmp_path / "log"
    made = catalog(5, log=str(log))
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(open_store, made, Blocks(), tmp_path / "stores", 0) for _ in range(2)]
        one, two = (job.result() for job in jobs)
    assert one.folder == two.folder
    assert sorted(log.read_text().split()) == sorted(made.table.recording_id)  # each recording was read once
    np.testing.assert_array_equal(one.frames, two.frames)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written.*store\.dir"):
        open_store(catalog(2), Blocks(), tmp_path / "file" / "stores", workers=0)


def test_others_may_read_the_store(tmp_path):
    store = open_store(catalog(2), Blocks(), tmp_path, workers=0)
    assert store.folder.stat().st_mode & 0o777 == 0o755


def test_an_opened_store_can_be_sent_to_a_worker(tmp_path):
    store = open_store(catalog(2), Blocks(), tmp_path, workers=0)
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.frames, store.frames)
