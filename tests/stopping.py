"""Ways to stop a training, in this process or another; runs and sweeps to stop, and what their ends have in common."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tiny_runs import TINY, on_folder


class Killed(BaseException):
    """What no handler of the program takes for its own."""


def stop_in(patch: pytest.MonkeyPatch, owner: type, hook: str, call: int) -> None:
    """Let a call of a callback's hook be the last thing that a process does, after the hook has done its work."""
    usual, calls = getattr(owner, hook), [0]

    def last(self: Any, trainer: Any, *arguments: Any, **named: Any) -> None:
        usual(self, trainer, *arguments, **named)
        calls[0] += 1
        if calls[0] == call:
            raise Killed

    patch.setattr(owner, hook, last)


@contextmanager
def training(words: Sequence[str], cwd: Path, said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``birdclf WORDS`` in a process group of its own, which is killed at the end of the block."""
    with open(said, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "birdclf", *map(str, words)],
            cwd=cwd,
            stdout=file,
            stderr=file,
            start_new_session=True,
            # A program that was started in the background may have been told to ignore them.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


LONG = ("trainer.max_epochs=4", "loader.batch_size=4", "model.dropout=0.5", "callbacks.snapshot.every_s=0")
TIMES = ("seconds", "windows_per_s")


def history_of(run: Path) -> list[dict[str, float]]:
    rows = json.loads((run / "history.json").read_text())
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def weights_of(run: Path, name: str) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / name, weights_only=True)["state_dict"]


def assert_same_end(run: Path, undisturbed: Path) -> None:
    assert (run / "metrics.json").read_bytes() == (undisturbed / "metrics.json").read_bytes()
    assert history_of(run) == history_of(undisturbed)
    pd.testing.assert_frame_equal(*(pd.read_parquet(r / "predictions.parquet") for r in (run, undisturbed)))
    for name in ("best.ckpt", "last.ckpt"):
        ours, theirs = weights_of(run, name), weights_of(undisturbed, name)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    done, expected = (json.loads((r / "done.json").read_text()) for r in (run, undisturbed))
    assert (done["score"], done["config_hash"]) == (expected["score"], expected["config_hash"])


def words(recordings: Path, run: Path, *more: str) -> list[str]:
    return on_folder(recordings, run, *LONG, *more)


EARLY = ("trainer.max_epochs=2", "loader.batch_size=4", "callbacks.snapshot.every_s=0", "name=again")
SWEEP = "hydra.sweep.dir=sweep"


def on_sweep(recordings: Path, *more: str) -> list[str]:
    return ["train", "-m", "data=folder", f"data.root={recordings}", *TINY, *EARLY, *more]


def stamps(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/done.json")}


def statuses(folder: Path) -> list[str]:
    return pd.read_csv(folder / "sweep.csv").status.tolist()
