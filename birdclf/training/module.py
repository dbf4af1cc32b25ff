"""The classifier: features, network and loss as one LightningModule."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final, Literal, Self

import lightning.pytorch as pl
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchmetrics.utilities.data import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from birdclf.augment.chain import BatchPosition, Chain
from birdclf.data.dataset import Batch, ResumableLoader
from birdclf.errors import UserError
from birdclf.features.representation import Representation
from birdclf.losses.base import as_loss, log_probabilities
from birdclf.metrics.figures import Evaluation, bucket_table, summarise
from birdclf.metrics.label_predictions import LabelPredictions
from birdclf.metrics.multi_label import ThresholdCounts
from birdclf.runs.checkpoint import CHECKPOINT_FORMAT
from birdclf.runs.predictor import Predictor
from birdclf.targets import Task
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
        target: ``(B,)``, or ``(B, K)`` sets.
    """
    return torch.cat(gather_all_tensors(logits)), torch.cat(gather_all_tensors(target))


class EpochMetrics(Metric):
    """Loss, unweighted negative log-likelihood, gradient norm and figures of an epoch, with a fixed class list.

    Args:
        num_classes: K.
        prefix: Put before the names of the figures, such as ``val/``.
        train_counts: ``(K,)`` train recordings of each class; with them there are figures of the buckets.
        evaluation: Limits of the buckets; the usual ones if not given.
    """

    norm: Tensor
    steps: Tensor
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
        super().__init__(**kwargs)
        self.num_classes, self.prefix = num_classes, prefix
        self.train_counts, self.evaluation = train_counts, evaluation or Evaluation()
        for name in ("nll", "loss", "norm"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")
        for name in ("clips", "steps"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor, loss: Tensor) -> None:
        """Add a batch: logits ``(B, K)``, target ``(B,)`` or ``(B, K)``, the batch's mean loss (a scalar)."""
        self.add(logits, target)
        self.loss += loss.float() * len(target)
        self.clips += len(target)

    @abstractmethod
    def add(self, logits: Tensor, target: Tensor) -> None:
        """Add logits ``(B, K)`` and targets of a batch, and its negative log-likelihood."""

    @abstractmethod
    def figures(self) -> dict[str, float | None]:
        """Return the figures beside the loss, some of which may be undefined."""

    def add_step(self, norm: Tensor) -> None:
        """Add an optimizer's step by the norm of its gradient, a scalar."""
        # A step that mixed precision skips has an infinite gradient; a run that diverges is seen by its loss.
        self.norm += torch.where(norm.isfinite(), norm.detach(), 0.0)
        self.steps += 1

    def snapshot(self) -> dict[str, Tensor]:
        """Return the state of the epoch so far."""
        return {
            name: getattr(self, name).clone() for name, usual in self._defaults.items() if isinstance(usual, Tensor)
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore the state of a snapshot."""
        for name, value in state.items():
            setattr(self, name, value.to(getattr(self, name)))
        self._update_count = int(self.clips > 0)  # else the metric warns that nothing was ever added

    def compute(self) -> dict[str, float]:
        """Return the epoch's figures by their prefixed names; ``grad_norm`` is the mean over optimizer steps."""
        clips = int(self.clips)
        figures = {"loss": float(self.loss) / clips, "nll": float(self.nll) / clips}
        figures |= {name: float(value) for name, value in self.figures().items() if value is not None}
        if int(self.steps):
            figures["grad_norm"] = float(self.norm) / int(self.steps)
        return {self.prefix + name: value for name, value in figures.items()}


class ClassMetrics(EpochMetrics):
    """Figures of one class a recording, from the confusion matrix.

    They are computed from it here: torchmetrics' macro F1 omits a class without targets and predictions.
    """

    confmat: Tensor

    def __init__(self, num_classes: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(num_classes, *args, **kwargs)
        self.add_state("confmat", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Add a batch; of a soft target ``(B, K)`` the class of the larger share counts."""
        hard = target.argmax(dim=1) if target.ndim == 2 else target
        self.confmat += multiclass_confusion_matrix(logits, hard, self.num_classes, validate_args=False)
        self.nll -= log_probabilities(logits).gather(1, hard[:, None]).sum()

    def figures(self) -> dict[str, float | None]:
        """Return accuracy, F1 and so on, and ``few_recall`` and so on of the buckets that have a clip."""
        confusion = self.confmat.cpu().numpy()
        figures: dict[str, float | None] = {**summarise(confusion)}
        if self.train_counts is not None:
            for bucket, row in bucket_table(confusion, self.train_counts, self.evaluation).items():
                figures |= {f"{bucket}_{name}": row[name] for name in ("recall", "f1")}
        return figures


class SetMetrics(EpochMetrics):
    """Figures of a set of classes a recording; of training, of which no ranking is kept, F1 alone."""

    counts: Tensor
    logits: list[Tensor]
    target: list[Tensor]

    def __init__(self, num_classes: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(num_classes, *args, **kwargs)
        self.add_state("counts", torch.zeros(3, num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("logits", "target"):  # of validation, which is never resumed within an epoch
            self.add_state(name, [], dist_reduce_fx="cat")

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Add a batch; unknown entries count in no figure."""
        z, known = logits.float(), target >= 0
        own = functional.binary_cross_entropy_with_logits(z, target.clamp_min(0).float(), reduction="none")
        self.nll += ((own * known).sum(dim=1) / known.sum(dim=1).clamp_min(1)).sum()
        found = (z.sigmoid() >= self.evaluation.threshold) & known
        heard = target == 1
        self.counts += torch.stack([each.sum(dim=0) for each in (found & heard, heard, found)])
        if self.train_counts is not None:
            self.logits.append(z)
            self.target.append(target.to(torch.int8))

    def figures(self) -> dict[str, float | None]:
        """Return F1, and of validation the figures of rankings and of the buckets."""
        if self.train_counts is None:
            counts = ThresholdCounts(*self.counts.cpu().numpy()[:, None])
            return {"micro_f1": float(counts.micro_f1().value), "macro_f1": float(np.nanmean(counts.f1().value))}
        logits, target = (dim_zero_cat(part).cpu().numpy() for part in (self.logits, self.target))
        one, none = np.zeros(len(logits), dtype=object), np.zeros(len(logits))  # cluster, and seconds, which act in no
        found = LabelPredictions(one, target, logits, one, none).epoch_figures(self.train_counts, self.evaluation)
        return {name: value for name, value in found.items() if name != "false_detections_per_hour"}


METRICS: Final[dict[Task, type[EpochMetrics]]] = {"single_label": ClassMetrics, "multi_label": SetMetrics}


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
        task: Whether a recording has one class or a set of classes.
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
        task: Task = "single_label",
    ) -> None:
        super().__init__(network, features, channels_last)
        self.layers = layers or Layers()
        self.frozen_norms = self.layers.apply_freeze(self.network, len(classes))
        self.loss, self.augment = as_loss(loss), augment
        self.classes, self.monitor, self.config = classes, monitor, config or {}
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.task: Task = task
        self.train_metrics = METRICS[task](len(classes), "train/", evaluation=evaluation)
        self.val_metrics = METRICS[task](len(classes), "val/", train_counts, evaluation)
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
        self._metrics(stage).update(logits.detach(), target, loss.detach())
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
            "task": self.task,
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
