"""The mean of the weights of the last epochs."""

import logging

import lightning.pytorch as pl
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from birdclf.checks import above, is_number
from birdclf.data.loader import ResumableLoader
from birdclf.data.module import RecordingDataModule
from birdclf.errors import UserError
from birdclf.models.norm_statistics import batch_norms, measuring
from birdclf.training.averaging import Averaging
from birdclf.training.predictor import Predictor

log = logging.getLogger(__name__)


class StochasticWeightAverage(Averaging):
    """The mean of the weights at each epoch's end, from a share of training on (Izmailov et al., 2018, algorithm 1).

    The mean has statistics of its own in each batch norm, from one pass over a window of every train recording.

    Args:
        start: Share of the epochs after which the mean begins, in [0, 1).
        rate: Share of the base rate at which these epochs run, above 0; None leaves the rate to the schedule.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(self, start: float = 0.75, rate: float | None = 0.5) -> None:
        super().__init__()
        if not is_number(start) or not 0 <= start < 1:
            raise UserError(f"averaging.start is {start}; it must be a share of the epochs, at least 0 and below 1.")
        if rate is not None:
            above("averaging.rate", rate, 0)
        self.start, self.rate = start, rate

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the rate of an epoch that counts."""
        if self.rate is not None and self._counts(trainer):
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = optimizer.defaults["lr"] * group.get("factor", 1.0) * self.rate

    def on_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the weights of an epoch's last step, and measure the statistics of their mean."""
        last = trainer.fit_loop.epoch_loop.batch_progress.current.ready == trainer.num_training_batches
        if last and self._counts(trainer):
            assert isinstance(pl_module, Predictor)
            self.take(pl_module.network, 1 / (self.taken + 1))
            if self._norms(pl_module):
                self.swap(pl_module)
                self._measure(trainer, pl_module)
                self.swap(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the mean in the network, if there is one."""
        super().on_train_end(trainer, pl_module)
        if self.average is None:
            log.warning(
                "training ended before averaging.start, so that no weights were averaged. Set it lower, or let "
                "training last by callbacks.early_stopping.patience."
            )

    def _counts(self, trainer: pl.Trainer) -> bool:
        assert trainer.max_epochs is not None
        return trainer.current_epoch >= int(self.start * trainer.max_epochs)

    def _norms(self, module: Predictor) -> list[_BatchNorm]:
        return [norm for norm in batch_norms(module.network) if norm.training]

    @torch.no_grad()
    def _measure(self, trainer: pl.Trainer, module: Predictor) -> None:
        """Give the batch norms that learn theirs the mean statistics of an epoch's batches."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, RecordingDataModule)
        loader: ResumableLoader = data.train_dataloader()
        loader.order.set_epoch(trainer.current_epoch)
        with measuring(module, self._norms(module)) as weigh:
            for i, batch in enumerate(loader):
                weigh(loader.recordings(i, i + 1))
                with trainer.precision_plugin.forward_context():
                    module.forward(trainer.strategy.batch_to_device(batch).bands)
