"""The classifier: features, network and loss as one LightningModule."""

import math
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from birdclf.augment.chain import Chain, Moment
from birdclf.data.dataset import Batch
from birdclf.errors import UserError
from birdclf.evaluation.settings import Evaluation
from birdclf.features.representation import Representation
from birdclf.training.accumulation import share_of_step
from birdclf.training.checkpoint import CHECKPOINT_FORMAT
from birdclf.training.gather import batch_of_all, processes
from birdclf.training.layers import Layers, MakeOptimizer, named_rates
from birdclf.training.metrics import EpochMetrics
from birdclf.training.predictor import Predictor

Stage = Literal["train", "val"]
MakeScheduler = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]


class Diverged(UserError):
    """A loss that is no number any more."""


class SpeciesClassifier(Predictor):
    """Turns stored features into logits and learns from them.

    Args:
        network: ``(B, C, F, T)`` features to ``(B, K)`` logits.
        loss: ``(logits, target)`` to a scalar. Before the steps of an epoch its ``begin_epoch(epoch, max_epochs)`` is
            called, if it has one, with the epoch from 0.
        features: Fitted feature module, stored bands to ``(B, C, F, T)``.
        classes: Names of the K classes, in the order of the logits.
        optimizer: Makes the optimizer from the parameters.
        scheduler: Makes the schedule from the optimizer; stepped once an epoch.
        monitor: Metric that a schedule on a plateau watches.
        channels_last: Keep the network's tensors in channels-last memory format.
        config: Resolved configuration as plain values, for the checkpoint.
        train_counts: ``(K,)`` train recordings of each class, for the curves of the buckets.
        evaluation: Limits of the buckets; the usual ones if not given.
        augment: What is done to batches in training; nothing if not given.
        layers: Which parameters learn, and how fast; all alike if not given.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        features: Representation,
        classes: tuple[str, ...],
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler,
        monitor: str,
        channels_last: bool = True,
        config: dict[str, Any] | None = None,
        train_counts: NDArray[np.int64] | None = None,
        evaluation: Evaluation | None = None,
        augment: Chain | None = None,
        layers: Layers | None = None,
    ) -> None:
        super().__init__(network, features, channels_last)
        self.layers = layers or Layers()
        self.still = self.layers.settle(self.network, len(classes))
        self.loss, self.augment = loss, augment
        self.classes, self.monitor, self.config = classes, monitor, config or {}
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.train_metrics = EpochMetrics(len(classes), "train/")
        self.val_metrics = EpochMetrics(len(classes), "val/", train_counts, evaluation)
        self.rates: dict[str, float] = {}

    def train(self, mode: bool = True) -> Self:
        """Choose training or evaluation mode; norms whose statistics are frozen stay in evaluation mode."""
        super().train(mode)
        for norm in self.still:
            norm.eval()
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, as its share in that of the optimizer's step."""
        loss = self._step(batch, "train", batch_idx)
        accumulated = self.trainer.accumulate_grad_batches
        return loss if accumulated == 1 else loss * share_of_step(batch_idx, accumulated, self.trainer)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the epoch's validation metrics."""
        self._step(batch, "val", batch_idx)

    def _step(self, batch: Batch, stage: Stage, batch_idx: int) -> Tensor:
        if stage == "train" and self.augment is not None:
            moment = Moment(self.current_epoch, batch_idx, self.global_rank)
            features, target = self.augment(batch.bands, batch.target, self.features, moment)
            logits = self.logits(features)
        else:
            logits, target = self.recording_logits(batch), batch.target
        together = processes() if stage == "train" else 1
        judged = batch_of_all(logits, target) if together > 1 else (logits, target)
        loss: Tensor = self.loss(*judged)
        # Reading the value waits for a GPU, so it is not done in every step; a loss that is NaN stays NaN.
        if stage == "train" and self.global_step % 20 == 0 and not math.isfinite(loss.item()):
            raise self._diverged(loss.item())
        # Of a mixed window the class of the larger share counts.
        hard = target.argmax(dim=1) if target.ndim == 2 else target
        self._metrics(stage).update(logits.detach(), hard, loss.detach())
        return loss * together if together > 1 else loss  # gradients are averaged, where their sum is wanted

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Tell the loss where training stands, and note the rates that this epoch runs at.

        A run that goes on begins in the middle of an epoch, where nothing says that one starts; and before an epoch's
        end the schedule has set the rates of the next.
        """
        if begin_epoch := getattr(self.loss, "begin_epoch", None):
            begin_epoch(self.current_epoch, self.trainer.max_epochs)
        self.rates = named_rates(self.trainer.optimizers[0])

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics and learning rates."""
        self._log_epoch("train")
        for name, rate in self.rates.items():
            self.log(name, rate)

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's validation metrics."""
        self._log_epoch("val")

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip as the trainer says, and note the norm of the gradient before it is clipped."""
        by_norm = gradient_clip_val and gradient_clip_algorithm in (None, "norm")
        limit = float(gradient_clip_val) if by_norm and gradient_clip_val else math.inf
        norm = nn.utils.clip_grad_norm_(self.parameters(), limit)
        if gradient_clip_val and not by_norm:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.train_metrics.add_step(norm)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer and its schedule."""
        optimizer = self.layers.optimizer(self.make_optimizer, self.network, len(self.classes))
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

    def _diverged(self, loss: float, stage: Stage = "train") -> Diverged:
        return Diverged(
            f"The {stage} loss became {loss} in epoch {self.current_epoch + 1}, step {self.global_step}. Lower "
            f"optimizer.lr, lower trainer.gradient_clip_val, or train with trainer.precision=32-true."
        )
