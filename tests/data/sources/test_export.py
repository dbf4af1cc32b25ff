from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from birdclf.audio.clip import AudioError, Clip, Sound
from birdclf.audio.resampling import read_waveform
from birdclf.data.catalog import Catalog
from birdclf.data.sources.synthetic import export_audio, synthetic_catalog
from birdclf.errors import UserError


class Tone:
    """A reader whose recordings named ``bad...`` cannot be read."""

    @contextmanager
    def open(self, clip: Clip) -> Iterator[Sound]:
        if clip.recording_id.startswith("bad"):
            raise AudioError("no sound in it")
        yield Sound(32_000, 1, 0.1, iter([np.sin(np.arange(3200) * 0.1).astype(np.float32)[:, None]]))

    def fingerprint(self) -> str:
        return "tone"


def tones(ids: list[str], species: list[str]) -> Catalog:
    return Catalog(pd.DataFrame({"recording_id": ids, "species": species}), Tone(), "tones")


def test_files_and_manifest_hold_the_catalog(tmp_path: Path) -> None:
    catalog = synthetic_catalog(scale=0.001, min_per_species=1, num_species=4)
    manifest = export_audio(catalog, tmp_path / "deep" / "out")
    assert manifest == tmp_path / "deep" / "out" / "manifest.csv"
    rows = pd.read_csv(manifest)
    assert list(rows.columns) == ["recording_id", "path", "species", "group"]
    pd.testing.assert_frame_equal(
        rows.drop(columns="path"), catalog.table[["recording_id", "species", "group"]], check_dtype=False
    )
    for row, clip in zip(rows.itertuples(), catalog.clips(), strict=True):
        assert row.path == f"{row.species}/{row.recording_id}.flac"
        sound, rate = soundfile.read(manifest.parent / row.path, dtype="float32")
        assert rate == 32_000
        np.testing.assert_allclose(sound, read_waveform(catalog.reader, clip, 32_000), atol=2**-15)


def test_other_rate_and_format(tmp_path: Path) -> None:
    export_audio(tones(["a"], ["x"]), tmp_path, sample_rate_hz=16_000, format="wav")
    assert soundfile.info(tmp_path / "x" / "a.wav").samplerate == 16_000


def test_a_folder_with_something_in_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        export_audio(tones(["a"], ["x"]), tmp_path)
    with pytest.raises(UserError, match="not an empty folder"):
        export_audio(tones(["a"], ["x"]), tmp_path / "mine.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_names_stay_inside_the_folder_and_apart(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ids = ["../up", "a/b.wav", "a_b.wav"]
    manifest = export_audio(tones(ids, ["..", "x/y", "x_y"]), out)
    paths = pd.read_csv(manifest).path
    assert paths.nunique() == 3
    assert all((out / p).resolve().is_relative_to(out.resolve()) and (out / p).is_file() for p in paths)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../../up", "NUL", "com1.txt", "鳥" * 200, "a\0b", "..\\..\\x", "."])
def test_a_name_that_is_none_for_a_file_is_made_one(tmp_path: Path, name: str) -> None:
    manifest = export_audio(tones([name], [name]), tmp_path / "out")
    (file,) = (tmp_path / "out").rglob("*.flac")
    assert file.parent.parent == tmp_path / "out" and [p.name for p in tmp_path.iterdir()] == ["out"]
    assert pd.read_csv(manifest, dtype=str, keep_default_na=False).path.tolist() == [f"{file.parent.name}/{file.name}"]
    assert file.stem.partition(".")[0].casefold() not in ("nul", "com1") and len(file.name.encode()) < 255


def test_a_bad_recording_is_set_aside_and_listed(tmp_path: Path) -> None:
    manifest = export_audio(tones(["bad1", "good"], ["x", "x"]), tmp_path)
    assert list(pd.read_csv(manifest).recording_id) == ["good"]
    audit = pd.read_csv(tmp_path / "audit.csv")
    assert audit.to_dict("records") == [{"recording_id": "bad1", "reason": "no sound in it"}]


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of its 1 recordings"):
        export_audio(tones(["bad"], ["x"]), tmp_path)


@pytest.mark.parametrize(("rate", "format", "message"), [(100, "flac", "100 Hz"), (32_000, "mp4", "'mp4'")])
def test_bad_settings_write_nothing(tmp_path: Path, rate: int, format: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        export_audio(tones(["a"], ["x"]), tmp_path / "out", sample_rate_hz=rate, format=format)
    assert not (tmp_path / "out").exists()
