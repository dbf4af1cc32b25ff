"""The classifier: features, network and loss as one LightningModule."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from birdclf.data.dataset import Batch
from birdclf.errors import UserError
from birdclf.features.mfcc import MFCCStack
from birdclf.training.metrics import EpochMetrics

CHECKPOINT_FORMAT = 1
WINDOWS_AT_ONCE = 256  # bounds the memory of an evaluation over all windows of long recordings

Stage = Literal["train", "val"]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]


class SpeciesClassifier(pl.LightningModule):
    """Turns stored features into logits and learns from them.

    Args:
        network: ``(B, C, F, T)`` features to ``(B, K)`` logits.
        loss: ``(logits, target)`` to a scalar.
        features: Fitted feature module, stored bands to ``(B, C, F, T)``.
        classes: Names of the K classes, in the order of the logits.
        optimizer: Makes the optimizer from the parameters.
        scheduler: Makes the schedule from the optimizer; stepped once an epoch.
        monitor: Metric that a schedule on a plateau watches.
        channels_last: Keep the network's tensors in channels-last memory format.
        config: Resolved configuration as plain values, for the checkpoint.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        features: MFCCStack,
        classes: tuple[str, ...],
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler,
        monitor: str,
        channels_last: bool = True,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.loss, self.features = loss, features
        self.classes, self.monitor, self.config = classes, monitor, config or {}
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        metrics = EpochMetrics(len(classes))
        self.train_metrics, self.val_metrics = metrics.with_prefix("train/"), metrics.with_prefix("val/")
        self.rates: list[float] = []

    def forward(self, bands: Tensor) -> Tensor:
        """Map stored bands ``(W, F, T)`` to logits ``(W, K)``."""
        features = self.features(bands).contiguous(memory_format=self.memory_format)
        logits: Tensor = self.network(features)
        return logits

    def recording_logits(self, batch: Batch) -> Tensor:
        """Return one row of logits a recording ``(B, K)``, the mean over its windows."""
        if len(batch.bands) == len(batch.target):
            return self.forward(batch.bands)
        logits = torch.cat([self.forward(part) for part in torch.split(batch.bands, WINDOWS_AT_ONCE)])
        sums = logits.new_zeros(len(batch.target), logits.shape[1]).index_add_(0, batch.owner, logits)
        return sums / torch.bincount(batch.owner, minlength=len(batch.target))[:, None]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the epoch's validation metrics."""
        self._step(batch, "val")

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``(recording, target, logits)`` of a batch on the CPU."""
        logits = self.recording_logits(batch)
        return batch.recording.cpu(), batch.target.cpu(), logits.float().cpu()

    def _step(self, batch: Batch, stage: Stage) -> Tensor:
        logits = self.recording_logits(batch)
        loss: Tensor = self.loss(logits, batch.target)
        # Reading the value waits for a GPU, so it is not done in every step; a loss that is NaN stays NaN.
        if stage == "train" and self.global_step % 20 == 0 and not math.isfinite(loss.item()):
            raise self._diverged(loss.item())
        self._metrics(stage).update(logits.detach(), batch.target, loss.detach())
        return loss

    def on_train_epoch_start(self) -> None:
        """Note the rates that this epoch runs at."""
        self.rates = [group["lr"] for group in self.trainer.optimizers[0].param_groups]

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics and learning rates."""
        self._log_epoch("train")
        for i, rate in enumerate(self.rates):
            self.log("lr" if i == 0 else f"lr/group_{i}", rate)

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's validation metrics."""
        self._log_epoch("val")

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip as the trainer says, and log the norm of the gradient before it is clipped."""
        by_norm = gradient_clip_val and gradient_clip_algorithm in (None, "norm")
        limit = float(gradient_clip_val) if by_norm and gradient_clip_val else math.inf
        norm = nn.utils.clip_grad_norm_(self.parameters(), limit)
        if gradient_clip_val and not by_norm:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.log("train/grad_norm", norm, on_step=False, on_epoch=True, batch_size=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer and its schedule."""
        optimizer = self.make_optimizer(self.network.parameters())
        scheduler = self.make_scheduler(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "epoch", "monitor": self.monitor},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a checkpoint needs to stand alone, as plain values."""
        checkpoint["birdclf"] = {
            "format": CHECKPOINT_FORMAT,
            "classes": list(self.classes),
            "features": dict(self.features.settings),
            "config": self.config,
        }

    def _metrics(self, stage: Stage) -> EpochMetrics:
        return self.train_metrics if stage == "train" else self.val_metrics

    def _log_epoch(self, stage: Stage) -> None:
        metrics = self._metrics(stage)
        figures = metrics.compute()
        metrics.reset()
        if not math.isfinite(figures[f"{stage}/loss"]):
            raise self._diverged(figures[f"{stage}/loss"], stage)
        # "step" is Lightning's word for the x axis: epochs compare across batch sizes, steps do not.
        self.log_dict({**figures, "step": float(self.current_epoch + 1)})

    def _diverged(self, loss: float, stage: Stage = "train") -> UserError:
        return UserError(
            f"The {stage} loss became {loss} in epoch {self.current_epoch + 1}, step {self.global_step}. Lower "
            f"optimizer.lr, lower trainer.gradient_clip_val, or train with trainer.precision=32-true."
        )
