"""``birdclf synthesize`` writes the aviary as sound files that training takes."""

from pathlib import Path

import pandas as pd
import pytest
import soundfile
from tiny_runs import TINY, Command

from birdclf.data.sources.raven import raven_catalog
from birdclf.data.sources.synthetic import synthetic_catalog

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


BRIEF = ("--num-species", "30", "--minutes", "0.5", "--seed", "3")


@pytest.fixture(scope="module")
def soundscapes(birdclf: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("aviary") / "soundscapes"
    done = birdclf("synthesize", out, "--soundscapes", "2", *BRIEF, cwd=out.parent)
    assert done.status == 0, done.err
    return done.out, out


def test_soundscapes_have_raven_tables_of_species_that_training_knows(soundscapes: tuple[str, Path]):
    printed, out = soundscapes
    assert f"birdclf evaluate RUN --soundscapes {out}" in printed
    sounds = sorted(out.glob("*.flac"))
    assert len(sounds) == 2 and len(list(out.iterdir())) == 4
    known = set(synthetic_catalog(scale=0.01, num_species=30).classes)
    for sound in sounds:
        info = soundfile.info(sound)
        assert (info.samplerate, info.channels, info.frames) == (32_000, 1, 960_000)
        table = pd.read_csv(sound.with_suffix(".Table.1.selections.txt"), sep="\t")
        assert list(table.Selection) == list(range(1, len(table) + 1)) and len(table)
        assert set(table.Species) <= known
        assert (table["Begin Time (s)"] < table["End Time (s)"]).all() and (table["End Time (s)"] <= 30).all()
        assert (table["Low Freq (Hz)"] < table["High Freq (Hz)"]).all()
    clips = raven_catalog(str(out)).table
    assert set(clips.species) <= known and clips.group.nunique() == 2


def test_a_larger_number_of_soundscapes_only_adds(soundscapes: tuple[str, Path], birdclf: Command, tmp_path: Path):
    assert birdclf("synthesize", "one", "--soundscapes", "1", *BRIEF, cwd=tmp_path).status == 0
    written = sorted((tmp_path / "one").iterdir())
    assert len(written) == 2
    for path in written:
        assert path.read_bytes() == (soundscapes[1] / path.name).read_bytes()


def test_empty_soundscapes_have_tables_without_selections(birdclf: Command, tmp_path: Path):
    words = ("--empty", "1", "--overlap", "0", "--minutes", "0.5", "--format", "ogg", "--sample-rate", "22050")
    done = birdclf("synthesize", "silence", "--soundscapes", "1", *words, cwd=tmp_path)
    assert done.status == 0, done.err
    (sound,), (table,) = (list((tmp_path / "silence").glob(pattern)) for pattern in ("*.ogg", "*.selections.txt"))
    info = soundfile.info(sound)
    assert info.samplerate == 22_050 and info.duration == pytest.approx(30, abs=0.01)
    assert len(table.read_text().splitlines()) == 1 and "Species" in table.read_text()


def test_background_is_a_flat_folder_of_recordings(birdclf: Command, tmp_path: Path):
    done = birdclf("synthesize", "nothing", "--background", "3", "--format", "wav", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "birdclf train data.background=nothing" in done.out
    written = list((tmp_path / "nothing").iterdir())
    assert len(written) == 3 and all(path.suffix == ".wav" for path in written)
    assert all(10 <= soundfile.info(path).duration <= 30 for path in written)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("--soundscapes", "0"), "--soundscapes"),
        (("--background", "-1"), "--background"),
        (("--soundscapes", "1", "--minutes", "0"), "--minutes"),
        (("--soundscapes", "1", "--minutes", "nan"), "--minutes"),
        (("--soundscapes", "1", "--empty", "1.2"), "--empty"),
        (("--soundscapes", "1", "--overlap", "-0.1"), "--overlap"),
        (("--soundscapes", "1", "--empty", "0.95"), "--overlap is 0.1; it must be at most 0.05"),
        (("--soundscapes", "1", "--seed", "-1"), "--seed"),
        (("--soundscapes", "1", "--num-species", "91"), "--num-species"),
        (("--soundscapes", "1", "--scale", "0.5"), "--scale has no effect with --soundscapes"),
        (("--background", "1", "--minutes", "2"), "--minutes has no effect with --background"),
        (("--seed", "1"), "--seed has no effect without --soundscapes or --background"),
    ],
)
def test_a_wrong_value_of_a_soundscape_is_refused_by_its_option(
    words: tuple[str, ...], option: str, birdclf: Command, tmp_path: Path
):
    done = birdclf("synthesize", "out", *words, cwd=tmp_path)
    assert done.status == 1 and option in done.mistake
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["--soundscapes", "--background"])
def test_soundscapes_overwrite_nothing(kind: str, birdclf: Command, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    done = birdclf("synthesize", tmp_path, kind, "1", cwd=tmp_path)
    assert done.status == 1 and "overwritten" in done.mistake
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
