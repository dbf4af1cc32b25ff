"""Snapshots of a run in training, from which it goes on to the very same end after whatever stopped it."""

import errno
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from birdclf.checks import in_range
from birdclf.training.accumulation import waits_for_step
from birdclf.training.checkpoint import LAST
from birdclf.training.gather import value_of_each
from birdclf.training.interrupts import Interrupts
from birdclf.training.metrics import EpochMetrics
from birdclf.training.progress import STATE_KEY, ending
from birdclf.training.random_state import random_state, set_random_state


class Snapshot(Callback):
    """Writes ``last.ckpt`` every few minutes, when a signal ends the run, and when training is over.

    It holds all that the next step depends on: weights, optimizer, schedule, callbacks, the place in the epoch, the
    epoch's metrics so far and the random state. The one before is kept as ``before_last.ckpt``.

    Args:
        dirpath: Folder of the checkpoints.
        every_s: Seconds of training that a killed run may lose; 0 writes after every step.

    Raises:
        UserError: If ``every_s`` is negative.
    """

    def __init__(self, dirpath: str, every_s: float = 60.0) -> None:
        in_range("callbacks.snapshot.every_s", every_s, 0)
        self.path, self.every_s = Path(dirpath) / LAST, every_s
        self.kept = self.began = time.monotonic()
        self.ended: dict[str, Any] | None = None
        self.interrupts = Interrupts()
        self.waiting: dict[str, Any] | None = None
        self.module: pl.LightningModule | None = None
        self.written = False

    @property
    def state_key(self) -> str:
        """Where a checkpoint keeps the state of this callback."""
        return STATE_KEY

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over Ctrl-C, so that the step at hand is finished and kept."""
        self.module, self.kept = pl_module, time.monotonic()
        self.began = self.kept - (self.waiting["seconds"] if self.waiting else 0.0)
        self.interrupts.take()
        if self.waiting is not None:
            own = self.waiting["processes"][trainer.global_rank]
            for name, metrics in _metrics(pl_module).items():
                metrics.restore(own["metrics"][name])

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore the random state just before it is drawn from again."""
        if self.waiting is not None:
            # Else the trainer leaves a schedule on a plateau out at the end of this epoch.
            trainer.fit_loop.restarting = False
            set_random_state(self.waiting["processes"][trainer.global_rank]["random"])
            self.waiting = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a snapshot if it is time, or if a signal has come."""
        if waits_for_step(batch_idx, trainer):  # no snapshot holds the gradients that are added up so far
            return
        # Processes that train together write together, and leave together if one of them got the signal.
        stopping = self._any(trainer, self.interrupts.seen or trainer.received_sigterm)
        due = stopping or self._any(trainer, time.monotonic() - self.kept >= self.every_s)
        # After its last step an epoch is not over: validation, schedule and callbacks are still to come.
        if due and batch_idx + 1 < trainer.num_training_batches:
            self._write(trainer)
        if stopping:
            self._leave(trainer)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Leave validation if a signal has come; it is repeated from the snapshot before."""
        if trainer.world_size == 1 and (self.interrupts.seen or trainer.received_sigterm):
            self._leave(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the last weights, with word that training is over."""
        self.interrupts.give_back()
        self.ended = ending(trainer)
        self._write(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give Ctrl-C back."""
        self.interrupts.give_back()

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning does not keep of a run."""
        if self.module is None:
            return {}
        metrics = {name: metrics.snapshot() for name, metrics in _metrics(self.module).items()}
        each = value_of_each({"random": random_state(), "metrics": metrics})
        return {"processes": each, "ended": self.ended, "seconds": time.monotonic() - self.began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what a snapshot held; it is put back when training starts."""
        self.waiting = state_dict or None

    def _write(self, trainer: pl.Trainer) -> None:
        if self.written and not self.path.exists():  # another folder may have come in its place: a mount point
            raise FileNotFoundError(errno.ENOENT, "it was there before, and is gone", str(self.path))
        trainer.save_checkpoint(self.path)
        self.kept, self.written = time.monotonic(), True

    def _any(self, trainer: pl.Trainer, decision: bool) -> bool:
        if trainer.world_size == 1:
            return decision
        return bool(trainer.strategy.reduce_boolean_decision(decision, all=False))

    def _leave(self, trainer: pl.Trainer) -> None:
        raise SIGTERMException if trainer.received_sigterm and not self.interrupts.seen else KeyboardInterrupt


def _metrics(module: pl.LightningModule) -> dict[str, EpochMetrics]:
    return {name: child for name, child in module.named_children() if isinstance(child, EpochMetrics)}
