"""The trainer's way to the disk."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from birdclf.training.checkpoint import write_whole


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole, and reads them without running anything in them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint whole; ``last.ckpt`` stays as ``before_last.ckpt`` when another takes its place.

        Raises:
            OSError: If it cannot be written; what was there before still is.
        """
        write_whole(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = True) -> Any:
        """Read a checkpoint; a file that would run code is refused by torch, whatever the caller asks for."""
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)
