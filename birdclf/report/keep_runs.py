"""Refuses to write into a folder that holds results already."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

RESULTS = ("split.csv", "sweep.csv", "audit.csv")


class KeepRuns(Callback):
    """Stops before Hydra writes its first file, so that no run is overwritten."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a run folder that holds a run."""
        _refuse(Path(config.hydra.run.dir), "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a sweep folder that holds a sweep, finished or not."""
        _refuse(Path(config.hydra.sweep.dir), "hydra.sweep.dir")


def _refuse(folder: Path, key: str) -> None:
    if any((folder / name).exists() for name in RESULTS) or any(folder.glob("*/split.csv")):
        # Hydra turns exceptions of a callback into warnings; leaving the process is the way to stop.
        sys.exit(f"birdclf: {folder} holds results already; nothing is overwritten. Choose another folder with {key}=…")
