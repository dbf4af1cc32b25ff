"""Weight averages, which are validated and saved in place of the network's own weights.

Training continues with the network's own weights, which a snapshot holds beside the average.
"""

import logging
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_swa_multi_avg_fn

from birdclf.checks import above, is_number
from birdclf.data.dataset import ResumableLoader
from birdclf.data.module import RecordingDataModule
from birdclf.errors import UserError
from birdclf.models.norm_statistics import batch_norms, measuring
from birdclf.runs.predictor import Predictor

log = logging.getLogger(__name__)


class Averaging(WeightAveraging):
    """Lightning's callback, but without an average before its first update; buffers are copied, not averaged."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(use_buffers=False, **settings)

    @property
    def taken(self) -> int:
        """Number of states in the average."""
        assert self._average_model is not None
        return int(self._average_model.n_averaged)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Create the average on the training device, to which the module has not been moved yet."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:  # it is read in every step, which must not wait for a GPU
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average, if there is one, into ``state_dict``, and the network's own state beside it."""
        own = checkpoint["state_dict"]
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if not self.taken:
            checkpoint["state_dict"] = own

    def _swap_models(self, pl_module: pl.LightningModule) -> None:
        if self.taken:
            super()._swap_models(pl_module)

    def _copy_average_to_current(self, pl_module: pl.LightningModule) -> None:
        if self.taken:
            super()._copy_average_to_current(pl_module)


class MovingAverage(Averaging):
    """After each step ``average = d * average + (1 - d) * weights`` (Kingma and Ba, 2015, section 7.2).

    The statistics of batch norms are the network's own: they are moving averages already.

    Args:
        decay: d, in [0, 1); 0 keeps the weights themselves.
        warmup: Use ``min(decay, (1 + t) / (10 + t))`` as d at step t, so that the initial random weights lose their
            influence; torch's own function has a constant d.

    Raises:
        UserError: If ``decay`` is out of range.
    """

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        super().__init__(multi_avg_fn=self._update)
        if not is_number(decay) or not 0 <= decay < 1:
            raise UserError(f"averaging.decay is {decay}; it must be at least 0 and below 1 (0.999 is usual).")
        self.decay, self.warmup = decay, warmup

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Initialise the average with the initial weights."""
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._average_model.update_parameters(pl_module)

    @torch.no_grad()
    def _update(self, average: list[Tensor], weights: list[Tensor], _: Tensor) -> None:
        step = self.taken - 1
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay
        torch._foreach_lerp_(average, weights, 1 - decay)


class StochasticWeightAverage(Averaging):
    """Mean of the weights at each epoch's end, from a share of training on (Izmailov et al., 2018, algorithm 1).

    The mean has statistics of its own in each batch norm, from one pass over a window of every train recording.
    torch's ``update_bn`` weights a short last batch like a full one, and leaves dropout on.

    Args:
        start: Share of the epochs after which the mean begins, in [0, 1).
        rate: Share of the base rate at which these epochs run, above 0; None leaves the rate to the schedule.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(self, start: float = 0.75, rate: float | None = 0.5) -> None:
        super().__init__(multi_avg_fn=get_swa_multi_avg_fn())  # type: ignore[no-untyped-call]
        if not is_number(start) or not 0 <= start < 1:
            raise UserError(f"averaging.start is {start}; it must be a share of the epochs, at least 0 and below 1.")
        if rate is not None:
            above("averaging.rate", rate, 0)
        self.start, self.rate = start, rate

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the rate of an epoch that is averaged."""
        if self.rate is not None and self._is_averaged(trainer):
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = optimizer.defaults["lr"] * group.get("factor", 1.0) * self.rate

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the weights of an epoch's last step to the mean before validation, and measure its statistics."""
        if batch_idx + 1 < trainer.num_training_batches or not self._is_averaged(trainer):
            return
        before = self.taken
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        assert isinstance(pl_module, Predictor)
        norms = [norm for norm in batch_norms(pl_module.network) if norm.training]
        if self.taken > before and norms:
            self._swap_models(pl_module)
            self._measure(trainer, pl_module, norms)
            self._swap_models(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the mean into the network, if there is one."""
        super().on_train_end(trainer, pl_module)
        if not self.taken:
            log.warning(
                "training ended before averaging.start, so no weights were averaged. Set averaging.start lower, or "
                "train longer with a higher callbacks.early_stopping.patience."
            )

    def _is_averaged(self, trainer: pl.Trainer) -> bool:
        assert trainer.max_epochs is not None
        return trainer.current_epoch >= int(self.start * trainer.max_epochs)

    @torch.no_grad()
    def _measure(self, trainer: pl.Trainer, module: Predictor, norms: list[_BatchNorm]) -> None:
        """Set the statistics of batch norms in training mode to the mean over an epoch's batches."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, RecordingDataModule)
        loader: ResumableLoader = data.train_dataloader()
        loader.order.set_epoch(trainer.current_epoch)
        with measuring(module, norms) as weigh:
            for i, batch in enumerate(loader):
                weigh(loader.recordings(i, i + 1))
                with torch.autocast(module.device.type, enabled=False):  # as in evaluation
                    module.forward(trainer.strategy.batch_to_device(batch).bands)
