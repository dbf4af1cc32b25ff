"""Averages of a network's weights in training: what is validated and kept in place of the weights themselves."""

from abc import abstractmethod
from typing import Any, Final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

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
