"""``birdclf predict`` killed at any moment, and given again, ends as if nothing had happened."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from detection.made_up import RATE_HZ, tones, write_run
from stopping import training

from birdclf.random import stream

FILES = 30


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and recordings in ``field``."""
    work = tmp_path_factory.mktemp("killed")
    write_run(work / "run")
    (work / "field").mkdir()
    rng = np.random.default_rng(0)
    for n in range(FILES):
        sound = tones(500, 1_250, 0, 2_750, seconds=0.3 + 0.1 * (n % 7))
        noise = 0.02 * rng.standard_normal(len(sound))
        soundfile.write(work / "field" / f"{n:02d}.wav", sound + noise, RATE_HZ)
    (work / "field" / "bad.wav").write_text("no sound")
    return work


def words(out: Path) -> list[str]:
    formats = ("--format", "csv", "parquet", "raven", "audacity", "jsonl")
    return ["predict", "run", "field", "--out", str(out), "--device", "cpu", "--min-confidence", "0.1", *formats]


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(work: Path) -> dict[str, bytes]:
    with training(words(work / "whole"), work, work / "said") as process:
        assert process.wait(timeout=300) == 0, (work / "said").read_text()
    return contents(work / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 10])
def test_it_resumes_where_it_was_killed(work: Path, undisturbed: dict[str, bytes], kills: int):
    out, rng = work / f"killed {kills}", stream("kills", kills)
    killed = 0
    for kill in range(kills):
        wanted = FILES * (kill + rng.random()) / kills
        with training(words(out), work, work / "said") as process:
            while process.poll() is None and lines_of(out) < wanted:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.3)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
    assert killed > 0
    with training(words(out), work, work / "said") as process:
        assert process.wait(timeout=300) == 0, (work / "said").read_text()
    assert contents(out) == undisturbed
    done = [json.loads(line)["name"] for line in (out / "predict.jsonl").read_bytes().splitlines()]
    assert len(done) == len(set(done)) == FILES + 1


def lines_of(out: Path) -> int:
    try:
        return (out / "predict.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
