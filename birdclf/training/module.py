"""The classifier: features, network and loss as one LightningModule."""

import math
from collections.abc import Callable
from typing import Any, Literal, Self

import lightning.pytorch as pl
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.utilities.distributed import gather_all_tensors

from birdclf.augment.chain import BatchPosition, Chain
from birdclf.data.dataset import Batch, ResumableLoader
from birdclf.errors import UserError
from birdclf.features.representation import Representation
from birdclf.losses.base import as_loss, log_probabilities
from birdclf.metrics.figures import Evaluation, bucket_table, summarise
from birdclf.runs.checkpoint import CHECKPOINT_FORMAT
from birdclf.runs.predictor import Predictor
from birdclf.training.optim.layers import Layers, MakeOptimizer, named_rates
from birdclf.training.processes import processes


def share_of_step(batch_idx: int, accumulated: int, trainer: pl.Trainer) -> float:
    """Return the factor of a batch's mean loss that makes a step's loss the mean over its recordings.

    The trainer divides each loss by ``accumulated``, which is right for whole groups of equal batches: the last group
    of an epoch may have fewer batches, and the last batch fewer recordings.

    Args:
        batch_idx: Position of the batch in its epoch.
        accumulated: Batches a step.
        trainer: Knows the loader, and how many batches an epoch has.
    """
    loader = trainer.train_dataloader
    assert isinstance(loader, ResumableLoader)
    begin = batch_idx // accumulated * accumulated
    end = min(begin + accumulated, int(trainer.num_training_batches))
    return accumulated * loader.recordings(batch_idx, batch_idx + 1) / loader.recordings(begin, end)


def waits_for_step(batch_idx: int, trainer: pl.Trainer) -> bool:
    """Return whether the optimizer has yet to step after a batch."""
    done = batch_idx + 1
    return done % trainer.accumulate_grad_batches != 0 and done < trainer.num_training_batches


def batch_of_all(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and targets of the batch of all processes; only this process's own rows carry a gradient.

    A loss of them is the loss of the whole batch, whatever it divides by, and its gradients summed over the processes
    are those of one process with that batch.

    Args:
        logits: ``(B, K)`` of this process; B may differ between them.
        target: ``(B,)``.
    """
    return torch.cat(gather_all_tensors(logits)), torch.cat(gather_all_tensors(target))


class EpochMetrics(MulticlassConfusionMatrix):
    """Confusion matrix, unweighted negative log-likelihood and loss of an epoch, with a fixed class list.

    The figures are computed from the matrix here: torchmetrics' macro F1 omits a class without targets and predictions.

    Args:
        num_classes: K.
        prefix: Put before the names of the figures, such as ``val/``.
        train_counts: ``(K,)`` train recordings of each class; with them there are figures such as ``few_recall``, of
            the buckets that have a clip.
        evaluation: Limits of the buckets; the usual ones if not given.
    """

    norm: Tensor
    steps: Tensor
    confmat: Tensor
    nll: Tensor
    loss: Tensor
    clips: Tensor

    def __init__(
        self,
        num_classes: int,
        prefix: str = "",
        train_counts: NDArray[np.int64] | None = None,
        evaluation: Evaluation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, validate_args=False, **kwargs)
        self.prefix, self.train_counts, self.evaluation = prefix, train_counts, evaluation
        for name in ("nll", "loss", "norm"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")
        for name in ("clips", "steps"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor, loss: Tensor) -> None:  # type: ignore[override]
        """Add a batch: logits ``(B, K)``, target ``(B,)``, the batch's mean loss (a scalar)."""
        super().update(logits, target)
        self.nll -= log_probabilities(logits).gather(1, target[:, None]).sum()
        self.loss += loss.float() * len(target)
        self.clips += len(target)

    def add_step(self, norm: Tensor) -> None:
        """Add an optimizer's step by the norm of its gradient, a scalar."""
        # A step that mixed precision skips has an infinite gradient; a run that diverges is seen by its loss.
        self.norm += torch.where(norm.isfinite(), norm.detach(), 0.0)
        self.steps += 1

    def snapshot(self) -> dict[str, Tensor]:
        """Return the state of the epoch so far."""
        return {name: getattr(self, name).clone() for name in self._defaults}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore the state of a snapshot."""
        for name in self._defaults:
            setattr(self, name, state[name].to(getattr(self, name)))
        self._update_count = int(self.clips > 0)  # else the metric warns that nothing was ever added

    def compute(self) -> dict[str, float]:  # type: ignore[override]
        """Return the epoch's figures by their prefixed names; ``grad_norm`` is the mean over optimizer steps."""
        confusion = self.confmat.cpu().numpy()
        clips = int(self.clips)
        figures = {"loss": float(self.loss) / clips, "nll": float(self.nll) / clips, **summarise(confusion)}
        if int(self.steps):
            figures["grad_norm"] = float(self.norm) / int(self.steps)
        if self.train_counts is not None:
            for bucket, row in bucket_table(confusion, self.train_counts, self.evaluation).items():
                measured = {f"{bucket}_{name}": row[name] for name in ("recall", "f1")}
                figures |= {name: float(value) for name, value in measured.items() if value is not None}
        return {self.prefix + name: value for name, value in figures.items()}


Stage = Literal["train", "val"]
MakeScheduler = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]


class Diverged(UserError):
    """A loss that is not finite."""


class SpeciesClassifier(Predictor):
    """Turns stored features into logits and learns from them.

    Args:
        network: ``(B, C, F, T)`` features to ``(B, K)`` logits.
        loss: ``(logits, target)`` to a scalar; a :class:`birdclf.losses.base.Loss` gets each new epoch.
        features: Fitted feature module, stored bands to ``(B, C, F, T)``.
        classes: Names of the K classes, in the order of the logits.
        optimizer: Makes the optimizer from the parameters.
        scheduler: Makes the schedule from the optimizer; stepped once an epoch.
        monitor: Metric that a schedule on a plateau watches.
        channels_last: Keep the network's tensors in channels-last memory format.
        config: Resolved configuration as plain values, for the checkpoint.
        train_counts: ``(K,)`` train recordings of each class, for the curves of the buckets.
        evaluation: Limits of the buckets; the usual ones if not given.
        augment: Augmentation of training batches; none if not given.
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
        self.frozen_norms = self.layers.apply_freeze(self.network, len(classes))
        self.loss, self.augment = as_loss(loss), augment
        self.classes, self.monitor, self.config = classes, monitor, config or {}
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.train_metrics = EpochMetrics(len(classes), "train/")
        self.val_metrics = EpochMetrics(len(classes), "val/", train_counts, evaluation)
        self.rates: dict[str, float] = {}

    def train(self, mode: bool = True) -> Self:
        """Choose training or evaluation mode; norms whose statistics are frozen stay in evaluation mode."""
        super().train(mode)
        for norm in self.frozen_norms:
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
            position = BatchPosition(self.current_epoch, batch_idx, self.global_rank)
            features, target = self.augment(batch.bands, batch.target, self.features, position, batch.owner)
            logits = self.pooled(self.logits(features), features, batch.owner, len(target))
        else:
            logits = self.recording_logits(batch) if stage == "train" else self.evaluation_logits(batch)
            target = batch.target
        together = processes() if stage == "train" else 1
        judged = batch_of_all(logits, target) if together > 1 else (logits, target)
        loss: Tensor = self.loss(*judged)
        # Reading the value waits for a GPU, so it is not done in every step; a loss that is NaN stays NaN.
        if stage == "train" and self.global_step % 20 == 0 and not math.isfinite(loss.item()):
            raise self._diverged(loss.item())
        # Of a mixed window the class of the larger share counts.
        hard = target.argmax(dim=1) if target.ndim == 2 else target
        self._metrics(stage).update(logits.detach(), hard, loss.detach())
        return loss * together if together > 1 else loss  # DDP averages gradients, but their sum is needed

    def on_train_start(self) -> None:
        """Let each of several processes draw its own units for dropout; a snapshot holds the state of each."""
        if processes() > 1:
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def on_validation_epoch_start(self) -> None:
        """Take the statistics of norms from the first of several processes: it writes the checkpoints."""
        if processes() > 1:
            for buffer in self.network.buffers():
                dist.broadcast(buffer, 0)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Pass the epoch to the loss, and record its learning rates.

        A run resumed within an epoch gets no hook for its start, and at its end the schedule has set the next rates.
        """
        assert self.trainer.max_epochs is not None
        self.loss.begin_epoch(self.current_epoch, self.trainer.max_epochs)
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
        """Clip gradients as configured, and record their norm before clipping."""
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
