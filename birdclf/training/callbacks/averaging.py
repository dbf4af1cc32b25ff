"""Averages of a network's weights in training: what is validated and kept in place of the weights themselves."""

import logging
from abc import abstractmethod
from typing import Any, Final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from birdclf.checks import above, is_number
from birdclf.data.dataset import ResumableLoader
from birdclf.data.module import RecordingDataModule
from birdclf.errors import UserError
from birdclf.models.norm_statistics import batch_norms, measuring
from birdclf.runs.predictor import Predictor

BESIDE: Final = "averaging"
"""Where a checkpoint keeps the weights that training goes on with; its ``state_dict`` holds the average."""


class Averaging(Callback):
    """Keeps an average of a network's state, and puts it in place for validation, checkpoints and the end of training.

    Training itself goes on with the network's own weights.

    Attributes:
        average: Name in the network to averaged tensor; None until the average begins.
        taken: How many states it was made of.
    """

    def __init__(self) -> None:
        self.average: dict[str, Tensor] | None = None
        self.taken = self.steps = 0

    @abstractmethod
    def on_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the network's state into the average, or not, after a step of the optimizer."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average, if the optimizer has made a step."""
        if trainer.global_step > self.steps:
            self.steps = trainer.global_step
            self.on_step(trainer, pl_module)

    def take(self, network: nn.Module, weight: float) -> None:
        """Move the average to a network's weights by a share of the way; counters and statistics are copied."""
        state = network.state_dict()
        self.taken += 1
        if self.average is None:
            self.average = {name: value.clone() for name, value in state.items()}
            return
        parameters = {name for name, _ in network.named_parameters()}
        for name, value in state.items():
            if name in parameters:
                self.average[name].lerp_(value, weight)
            else:
                self.average[name].copy_(value)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place."""
        self.swap(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the network's own state back."""
        self.swap(pl_module)

    @torch.no_grad()
    def swap(self, pl_module: pl.LightningModule) -> None:
        """Exchange the network's state and the average."""
        if self.average is None:
            return
        for name, value in _state(pl_module).items():
            own = value.clone()
            value.copy_(self.average[name])
            self.average[name].copy_(own)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the network."""
        if self.average is not None:
            _put(self.average, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the counters."""
        return {"taken": self.taken, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.taken, self.steps = state_dict["taken"], state_dict["steps"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average into the checkpoint's ``state_dict``, and the network's own state beside it."""
        if self.average is not None:
            own = checkpoint["state_dict"]
            checkpoint[BESIDE] = {name: own[f"network.{name}"] for name in self.average}
            checkpoint["state_dict"] = own | {f"network.{name}": value for name, value in self.average.items()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the average out of a snapshot, and put the network's own state back."""
        if BESIDE in checkpoint:
            self.average = {name: value.clone() for name, value in _state(pl_module).items()}
            _put(checkpoint[BESIDE], pl_module)


def _state(pl_module: pl.LightningModule) -> dict[str, Tensor]:
    network = pl_module.network
    assert isinstance(network, nn.Module)
    return network.state_dict()


@torch.no_grad()
def _put(state: dict[str, Tensor], pl_module: pl.LightningModule) -> None:
    for name, value in _state(pl_module).items():
        value.copy_(state[name])


class MovingAverage(Averaging):
    """After each step ``average = d * average + (1 - d) * weights`` (Kingma and Ba, 2015, section 7.2).

    The statistics of batch norms are the network's own: they are moving averages already.

    Args:
        decay: d, in [0, 1); 0 keeps the weights themselves.
        warmup: Whether d begins small, as ``min(decay, (1 + t) / (10 + t))`` at step t, so that the average forgets the
            random weights that it begins with.

    Raises:
        UserError: If ``decay`` is out of range.
    """

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        super().__init__()
        if not is_number(decay) or not 0 <= decay < 1:
            raise UserError(f"averaging.decay is {decay}; it must be at least 0 and below 1 (0.999 is usual).")
        self.decay, self.warmup = decay, warmup

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the weights that training begins with."""
        if self.average is None:
            network = pl_module.network
            assert isinstance(network, nn.Module)
            self.average = {name: value.clone() for name, value in network.state_dict().items()}

    def on_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the weights of every step."""
        decay = min(self.decay, (1 + self.taken) / (10 + self.taken)) if self.warmup else self.decay
        network = pl_module.network
        assert isinstance(network, nn.Module)
        self.take(network, 1 - decay)


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
