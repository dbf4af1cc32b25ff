"""Prunes a run of a search that is worse than other trials."""

from typing import Protocol

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from birdclf.errors import UserError
from birdclf.runs.state import Pruned


class Trial(Protocol):
    """The part of Optuna's trial that the callback needs."""

    def report(self, value: float, step: int) -> None:
        """Record the monitored metric after an epoch."""

    def should_prune(self) -> bool:
        """Return whether to stop the trial."""


class Pruning(Callback):
    """Reports the monitored metric to a search's trial after every epoch, and ends the run if the trial is pruned."""

    def __init__(self, trial: Trial, monitor: str) -> None:
        self.trial, self.monitor = trial, monitor

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a run of several processes, only one of which would stop.

        Raises:
            UserError: If there is more than one.
        """
        if trainer.world_size > 1:
            raise UserError(
                "Only a run of one process can be stopped early: trainer.devices=1 or callbacks.pruning=null."
            )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the previous epoch, which is complete by now.

        Raises:
            Pruned: If the trial is pruned.
        """
        if trainer.current_epoch:
            value = self._report(trainer, trainer.current_epoch)
            if self.trial.should_prune():
                raise Pruned(trainer.current_epoch, value)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the last epoch."""
        self._report(trainer, trainer.current_epoch)

    def _report(self, trainer: pl.Trainer, epoch: int) -> float:
        value = float(trainer.callback_metrics[self.monitor])
        self.trial.report(value, epoch)
        return value
