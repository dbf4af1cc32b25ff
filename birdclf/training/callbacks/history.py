"""One row per epoch, in ``history.json`` and in the log."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from birdclf.files import write_whole

log = logging.getLogger(__name__)


class History(Callback):
    """Writes every epoch's figures to ``history.json`` in the run folder ``dirpath`` when the epoch is over."""

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath) / "history.json"
        self.rows: list[dict[str, Any]] = []
        self.open = False
        self.began = self.trained = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the rows, and the seconds of the current epoch so far."""
        return {"rows": self.rows, "open": self.open, "spent": time.perf_counter() - self.began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows of a resumed run."""
        self.rows, self.open = list(state_dict["rows"]), state_dict["open"]
        self.began = time.perf_counter() - state_dict["spent"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the previous epoch, whose training figures are complete only now."""
        self._write(trainer)
        self.rows.append({"epoch": trainer.current_epoch + 1})
        self.open, self.began, self.trained = True, time.perf_counter(), 0.0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the seconds of the training part of the epoch."""
        self.trained = time.perf_counter() - self.began

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the last epoch."""
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        if not self.open:
            return
        self.open = False
        row = self.rows[-1]
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if name != "step"}
        seconds = time.perf_counter() - self.began
        loader = trainer.train_dataloader
        windows = len(loader.dataset) if loader is not None else 0
        row |= figures | {"seconds": seconds, "windows_per_s": windows / self.trained if self.trained else None}
        if not trainer.is_global_zero:
            return
        write_whole(self.path, json.dumps(self.rows, indent=1))
        shown = {"accuracy": "accuracy", "cmap": "cmAP", "macro_f1": "macro F1"}
        train, val = (
            " ".join(f"{word} {row[f'{stage}/{name}']:.3f}" for name, word in shown.items() if f"{stage}/{name}" in row)
            for stage in ("train", "val")
        )
        log.info(
            "epoch %d: train nll %.3f %s | val nll %.3f %s | lr %.2g, %.0f s",
            row["epoch"], row["train/nll"], train, row["val/nll"], val, row["lr"], seconds,
        )  # fmt: skip
