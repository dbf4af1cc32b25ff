"""What ``birdclf prepare`` finds in a folder with planted faults, and what training makes of it."""

import time
from pathlib import Path

import pandas as pd
import pytest
from planted_faults import SPECIES, Expected, plant
from tiny_runs import REPO, Command, Outcome, on_folder

from birdclf.audio.formats import is_sound
from birdclf.audit.rules import COLUMNS

RECORDINGS = REPO.parent / "shared" / "recordings"


def prepare(birdclf: Command, root: Path, store: Path, run: Path, *more: str) -> Outcome:
    words = ["data=folder", f"data.root={root}", f"store.dir={store}", "store.workers=0", f"hydra.run.dir={run}", *more]
    return birdclf("prepare", *words, cwd=store.parent)


def audit_of(run: Path) -> pd.DataFrame:
    table = pd.read_csv(run / "audit.csv", keep_default_na=False, na_values={"top_hz": [""]})
    assert tuple(table.columns) == COLUMNS
    return table.set_index("recording_id")


def found_in(run: Path) -> Expected:
    audit = audit_of(run)
    return {name: (row.verdict, set(row.problems.split())) for name, row in audit.iterrows()}


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the recordings, and the store and the runs on them."""
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def expected(field: Path) -> Expected:
    return plant(field / "recordings")


@pytest.fixture(scope="module")
def prepared(field: Path, expected: Expected, birdclf: Command) -> Outcome:
    """The first run over the recordings, in ``run``, with the store in ``store``."""
    return prepare(birdclf, field / "recordings", field / "store", field / "run")


def state_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_every_planted_fault_is_found_and_nothing_else(prepared: Outcome, expected: Expected, field: Path):
    assert prepared.status == 0, prepared.err
    assert "Traceback" not in prepared.out + prepared.err
    assert found_in(field / "run") == expected


def test_the_log_counts_the_verdicts(prepared: Outcome, expected: Expected, field: Path):
    verdicts = [verdict for verdict, _ in expected.values()]
    assert f"{len(expected)} recordings" in prepared.out
    assert f"set aside: {verdicts.count('reject')}, the first Alauda arvensis/claimed.flac is the same" in prepared.out
    assert f"used with a warning: {verdicts.count('warn')}" in prepared.out
    assert str(field / "run" / "audit.html") in prepared.out


def test_the_table_says_why(prepared: Outcome, field: Path):
    audit = audit_of(field / "run")
    for name, words in {
        "Corvus corax/text.wav": "cannot be decoded",
        "Corvus corax/short.wav": "0.20 s long, shorter than audit.min_duration_s=0.3",
        "Corvus corax/cut.wav": "lasts 2.00 s, by its header 4.00 s",
        "Corvus corax/repeat 2.flac": "Corvus corax/repeat 0.wav",
        "Corvus corax/contested.wav": "labelled Alauda arvensis",
        "Corvus corax/8 kHz.flac": "8,000 Hz",
    }.items():
        assert words in audit.reason[name]
    assert (audit.reason == "").tolist() == (audit.problems == "").tolist()
    assert audit.audio_hash["Corvus corax/repeat 0.wav"] == audit.audio_hash["Corvus corax/repeat 2.flac"] != ""


def test_the_page_shows_every_problem(prepared: Outcome, expected: Expected, field: Path):
    page = (field / "run" / "audit.html").read_text()
    named = set().union(*(problems for _, problems in expected.values()))
    assert len(named) > 14
    for words in (*named, *SPECIES, "folder recordings", "Corvus corax/not a number.wav", "8 kHz.flac"):
        assert words in page


def test_a_second_run_decodes_nothing_and_says_the_same(prepared: Outcome, field: Path, birdclf: Command):
    before, began = state_of(field / "store"), time.perf_counter()
    again = prepare(birdclf, field / "recordings", field / "store", field / "again")
    assert again.status == 0, again.err
    assert time.perf_counter() - began < 5
    assert state_of(field / "store") == before
    for name in ("audit.csv", "audit.html"):
        assert (field / "again" / name).read_bytes() == (field / "run" / name).read_bytes()


def test_other_limits_decode_nothing_and_change_verdicts(
    prepared: Outcome, expected: Expected, field: Path, birdclf: Command
):
    before = state_of(field / "store")
    words = ["audit.min_duration_s=0.1", "audit.verdicts.clipped=reject", "audit.verdicts.header_lies=ok"]
    other = prepare(birdclf, field / "recordings", field / "store", field / "other", *words, "audit.min_rate_hz=8000")
    assert other.status == 0, other.err
    assert state_of(field / "store") == before
    assert found_in(field / "other") == expected | {
        "Corvus corax/short.wav": ("ok", set()),
        "Corvus corax/clipped.wav": ("reject", {"clipped"}),
        "Corvus corax/8 kHz.flac": ("ok", set()),
        "Corvus corax/quiet offset.wav": ("warn", {"dc"}),
        **{f"Corvus corax/{name}": ("ok", {"header_lies"}) for name in ("cut.mp3", "cut.wav", "claims more.wav")},
    }


def test_another_mix_is_decoded_again_and_judged_alike(prepared: Outcome, field: Path, birdclf: Command):
    words = ["audio.channel=loudest", "audio.dc=remove", "audio.gain=peak"]
    other = prepare(birdclf, field / "recordings", field / "store", field / "mixed", *words)
    assert other.status == 0, other.err
    assert len(list((field / "store").glob("*/meta.json"))) == 2
    assert (field / "mixed" / "audit.csv").read_bytes() == (field / "run" / "audit.csv").read_bytes()


def test_a_run_folder_with_an_audit_is_refused(prepared: Outcome, field: Path, birdclf: Command):
    before = state_of(field / "run")
    again = prepare(birdclf, field / "recordings", field / "store", field / "run")
    assert again.status == 1
    assert "holds results already" in again.mistake and "hydra.run.dir" in again.mistake
    kept = {path: written for path, written in state_of(field / "run").items() if path.name.startswith("audit")}
    assert kept and kept.items() <= before.items()


@pytest.mark.slow
def test_training_audits_first_and_learns_from_nothing_rejected(field: Path, expected: Expected, birdclf: Command):
    done = birdclf(*on_folder(field / "recordings", field / "trained", f"store.dir={field / 'fresh'}"), cwd=field)
    assert done.status == 0, done.err
    assert found_in(field / "trained") == expected
    split = pd.read_csv(field / "trained" / "split.csv")
    assert set(split.recording_id) == {name for name, (verdict, _) in expected.items() if verdict != "reject"}
    assert len(list((field / "fresh").glob("*/meta.json"))) == 1
    leaks = pd.read_csv(field / "trained" / "leaks.csv").set_index(["leak", "split"])
    assert (leaks.shared["audio"] == 0).all() and (leaks.known["audio"] == leaks.recordings["audio"]).all()
    assert "used with a warning" in done.out and "set aside as unusable" in done.out


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    for n, species in enumerate(SPECIES):
        (tmp_path / "spoilt" / species).mkdir(parents=True)
        (tmp_path / "spoilt" / species / "a.wav").write_text("no sound " * n)
    return tmp_path / "spoilt"


def test_an_audit_of_nothing_usable_is_still_written(spoilt: Path, birdclf: Command, tmp_path: Path):
    done = prepare(birdclf, spoilt, tmp_path / "store", tmp_path / "run")
    assert done.status == 0, done.err
    assert all(found == ("reject", {"undecodable"}) for found in found_in(tmp_path / "run").values())
    assert "undecodable" in (tmp_path / "run" / "audit.html").read_text()


def test_training_on_nothing_usable_is_refused(spoilt: Path, birdclf: Command, tmp_path: Path):
    done = birdclf(*on_folder(spoilt, "run", f"store.dir={tmp_path / 'store'}"), cwd=tmp_path)
    assert done.status == 1
    for words in ("none of the 3 recordings", "Alauda arvensis/a.wav", "birdclf prepare"):
        assert words in done.mistake


def test_real_recordings_are_prepared(birdclf: Command, tmp_path: Path):
    files = [path for path in RECORDINGS.rglob("*") if is_sound(path)]
    if not files:
        pytest.skip("no real recordings at ../shared/recordings")
    done = prepare(birdclf, RECORDINGS, tmp_path / "store", tmp_path / "run")
    assert done.status == 0, done.err
    assert len(audit_of(tmp_path / "run")) == len(files)
    assert (tmp_path / "run" / "audit.html").is_file()
