"""Checkpoints are written whole or not at all, and nothing in them is executed."""

import os
import pickle

import pytest
import torch

from birdclf.runs.checkpoint import BEFORE, LAST
from birdclf.training.trainer import WholeCheckpoints


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("it_was_executed",))


def read(path):
    return WholeCheckpoints().load_checkpoint(path)["step"]


def test_the_last_two_are_kept(tmp_path):
    for step in range(3):
        WholeCheckpoints().save_checkpoint({"step": step}, tmp_path / "checkpoints" / LAST)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [BEFORE, LAST]
    assert [read(tmp_path / "checkpoints" / name) for name in (BEFORE, LAST)] == [1, 2]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    WholeCheckpoints().save_checkpoint({"step": 1}, tmp_path / LAST)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        WholeCheckpoints().save_checkpoint({"step": 2}, tmp_path / LAST)
    assert [path.name for path in tmp_path.iterdir()] == [LAST] and read(tmp_path / LAST) == 1


@pytest.mark.parametrize("weights_only", [True, False, None])
def test_a_pickled_object_is_never_built(tmp_path, monkeypatch, weights_only):
    monkeypatch.chdir(tmp_path)
    torch.save({"step": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        WholeCheckpoints().load_checkpoint(tmp_path / "evil.ckpt", weights_only=weights_only)
    assert not (tmp_path / "it_was_executed").exists()
