"""Help and settings come at once: nothing heavy is imported for them."""

import resource
from pathlib import Path

import pytest
from tiny_runs import REPO, Command

LIMIT_S = 1.5
LOOP = "s = 0\nfor i in range(10**7): s += i"
LOOP_S = 0.6  # of the loop above, where the limit was set; a shared machine is at times three times as slow
QUICK = [
    ["train", "--help"],
    ["train", "--cfg", "job"],
    ["train", "experiment=phase2b", "data.scale=1.0", "--cfg", "job"],
    ["prepare", "--help"],
    ["--help"],
]


def seconds_of(python: Command, cwd: Path, *words: str) -> float:
    """Return the processor time of a program, not the clock's: other tests run beside this one."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = python(*words, cwd=cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.status == 0, done.err
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("words", QUICK, ids=[" ".join(words) for words in QUICK])
def test_an_answer_comes_within_the_limit(words: list[str], python: Command, tmp_path: Path):
    best = float("inf")
    for _ in range(3):
        taken = seconds_of(python, tmp_path, "-m", "birdclf", *words)
        best = min(best, taken / max(1.0, seconds_of(python, tmp_path, "-c", LOOP) / LOOP_S))
        if best < LIMIT_S:
            break
    assert 0 < best < LIMIT_S, f"best of 3: {best:.2f} s"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--cfg", "job", "seed=9"], ["seed=9", "--cfg", "job"], ["--cfg", "job"]])
def test_options_may_stand_before_or_after_settings(words: list[str], birdclf: Command, tmp_path: Path):
    done = birdclf("train", *words, cwd=tmp_path)
    assert done.status == 0, done.err
    assert ("seed: 9" if "seed=9" in words else "seed: 1") in done.out


HEAVY = ("torch", "lightning", "librosa", "pandas", "scipy", "sklearn", "matplotlib")
PROBE = f"""
import sys
from birdclf.cli import main
try:
    main(sys.argv[1:])
except SystemExit as leaving:
    assert not leaving.code, leaving.code
sys.stderr.write("heavy: " + " ".join(name for name in {HEAVY!r} if name in sys.modules))
"""


@pytest.mark.parametrize("words", QUICK, ids=[" ".join(words) for words in QUICK])
def test_nothing_heavy_is_imported(words: list[str], python: Command, tmp_path: Path):
    done = python("-c", PROBE, *words, cwd=tmp_path)
    assert done.status == 0, done.err
    assert done.err.strip().endswith("heavy:"), done.err


def test_help_lists_the_commands(birdclf: Command, tmp_path: Path):
    done = birdclf("--help", cwd=tmp_path)
    assert done.status == 0
    assert all(f"    {name}" in done.out for name in ("train", "prepare", "synthesize"))


def test_the_bare_command_shows_help_and_fails(birdclf: Command, tmp_path: Path):
    done = birdclf(cwd=tmp_path)
    assert done.status == 2 and "train" in done.out + done.err


def test_version(birdclf: Command, tmp_path: Path):
    from birdclf import __version__

    assert birdclf("--version", cwd=tmp_path).out.strip() == f"birdclf {__version__}"


def test_help_of_train_lists_groups_and_settings(birdclf: Command, tmp_path: Path):
    done = birdclf("train", "--help", cwd=tmp_path)
    assert done.status == 0
    assert done.out.startswith("birdclf train ")
    for group in ("loss", "model", "experiment", "sweep"):
        options = sorted(path.stem for path in (REPO / "conf" / group).glob("*.yaml"))
        assert f"\n{group}: {', '.join(options)}\n" in done.out, group
    for key in ("seed: 1", "monitor: val/macro_f1", "batch_size: 32", "--cfg job", "-m "):
        assert key in done.out, key


def test_help_of_prepare_names_prepare(birdclf: Command, tmp_path: Path):
    assert birdclf("prepare", "--help", cwd=tmp_path).out.startswith("birdclf prepare ")


def test_help_of_synthesize_names_its_options(birdclf: Command, tmp_path: Path):
    done = birdclf("synthesize", "--help", cwd=tmp_path)
    assert done.status == 0
    assert all(option in done.out for option in ("--scale", "--num-species", "--sample-rate", "--format"))


def test_help_shows_a_command_its_own_groups_and_the_settings_given(birdclf: Command, tmp_path: Path):
    train, prepare = (
        birdclf(root, "--help", "seed=9" if root == "train" else "features.hop=160", cwd=tmp_path)
        for root in ("train", "prepare")
    )
    assert "seed: 9" in train.out and "\nloss: " in train.out
    assert "hop: 160" in prepare.out and "\nfeatures: " in prepare.out and "\nloss: " not in prepare.out
    wrong = birdclf("train", "--help", "lossy=1", cwd=tmp_path)
    assert wrong.status == 1 and "There is no setting 'lossy'. Did you mean loss?" in wrong.err
