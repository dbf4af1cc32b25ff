"""``birdclf synthesize`` writes the aviary as sound files that training takes."""

from pathlib import Path

import pandas as pd
import pytest
import soundfile
from tiny_runs import TINY, Command

SMALL = ("--scale", "0.001", "--num-species", "3", "--sample-rate", "16000")


@pytest.fixture(scope="module")
def aviary(birdclf: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("aviary") / "songs"
    done = birdclf("synthesize", out, *SMALL, "--format", "wav", cwd=out.parent)
    assert done.status == 0, done.err
    return done.out, out


def test_files_and_manifest_agree(aviary: tuple[str, Path]):
    out = aviary[1]
    manifest = pd.read_csv(out / "manifest.csv")
    assert set(manifest.columns) >= {"path", "species", "recording_id", "group"}
    assert manifest.species.nunique() == 3 and len(manifest) >= 3 and manifest.recording_id.is_unique
    on_disk = {path.relative_to(out).as_posix() for path in out.rglob("*.wav")}
    assert on_disk == set(manifest.path)
    for path in manifest.path:
        info = soundfile.info(out / path)
        assert info.samplerate == 16_000 and info.channels == 1 and info.duration >= 1


def test_training_takes_the_manifest_as_the_command_says(aviary: tuple[str, Path], birdclf: Command, tmp_path: Path):
    printed, out = aviary
    assert f"data=manifest data.path={out / 'manifest.csv'}" in printed
    words = next(line.split() for line in printed.splitlines() if line.strip().startswith("birdclf train"))
    done = birdclf(*words[1:], *TINY, "hydra.run.dir=run", cwd=tmp_path)
    assert done.status == 0, done.err
    split = pd.read_csv(tmp_path / "run" / "split.csv")
    assert set(split.recording_id) == set(pd.read_csv(out / "manifest.csv").recording_id)


def test_a_folder_that_holds_something_is_refused(aviary: tuple[str, Path], birdclf: Command, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    done = birdclf("synthesize", tmp_path, *SMALL, cwd=tmp_path)
    assert done.status == 1 and str(tmp_path) in done.mistake and "overwritten" in done.mistake
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    again = birdclf("synthesize", aviary[1], *SMALL, cwd=tmp_path)
    assert again.status == 1 and str(aviary[1]) in again.mistake


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        (("--scale", "0"), "0"),
        (("--num-species", "1"), "1"),
        (("--num-species", "500"), "500"),
        (("--sample-rate", "10"), "10"),
    ],
    ids=["scale", "one species", "too many species", "rate"],
)
def test_a_wrong_number_is_refused(words: tuple[str, ...], holds: str, birdclf: Command, tmp_path: Path):
    done = birdclf("synthesize", "out", *words, cwd=tmp_path)
    assert done.status == 1 and holds in done.mistake
    assert words[0].strip("-").replace("-", " ") in done.mistake.lower().replace("_", " ").replace("-", " ")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_wrong_word_is_refused(birdclf: Command, tmp_path: Path):
    done = birdclf("synthesize", "out", "--format", "mp4", cwd=tmp_path)
    assert done.status == 2 and "mp4" in done.err and "flac" in done.err
