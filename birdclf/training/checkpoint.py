"""Checkpoints on the disk: written whole or not at all, read without running anything in them."""

import io
import os
from pathlib import Path
from typing import Any, Final

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from birdclf.training.predictor import Predictor

LAST: Final = "last.ckpt"
BEFORE: Final = "before_last.ckpt"


class WholeCheckpoints(TorchCheckpointIO):
    """The trainer's way to the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint whole; ``last.ckpt`` stays as ``before_last.ckpt`` when another takes its place.

        Raises:
            OSError: If it cannot be written; what was there before still is.
        """
        write_whole(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = True) -> Any:
        """Read a checkpoint; a file that would run code is refused by torch, whatever the caller asks for."""
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)


def write_whole(content: dict[str, Any], path: Path) -> None:
    """Write a temporary file beside a checkpoint, and put it in its place once the disk has it.

    Raises:
        OSError: If it cannot be written; what was there before still is.
    """
    path.parent.mkdir(exist_ok=True)  # not the run folder above: where that is gone, another must not take its place
    memory = io.BytesIO()  # torch's own writer reports a full disk as an error of its format
    torch.save(content, memory)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(memory.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        if path.name == LAST and path.exists():
            os.replace(path, path.with_name(BEFORE))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_weights(classifier: Predictor, checkpoint: Path) -> int:
    """Load a checkpoint's weights and return its epoch, from 1; nothing in the file is executed."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    classifier.load_state_dict(content["state_dict"])
    return int(content["epoch"]) + 1


def keep_temperature(checkpoint: Path, temperature: float) -> None:
    """Add a temperature to a checkpoint."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    content["birdclf"]["temperature"] = temperature
    write_whole(content, checkpoint)
