"""Metrics of an epoch, kept on the device, reduced over processes, and part of a snapshot."""

from typing import Any

import numpy as np
import torch
import torchmetrics
from numpy.typing import NDArray
from torch import Tensor

from birdclf.evaluation.metrics import bucket_table, summarise
from birdclf.evaluation.settings import Evaluation
from birdclf.losses.targets import log_probabilities


class EpochMetrics(torchmetrics.Metric):
    """Confusion matrix, plain negative log-likelihood and loss of an epoch, with a fixed class list.

    Args:
        num_classes: K.
        prefix: Put before the names of the figures, such as ``val/``.
        train_counts: ``(K,)`` train recordings of each class; with them there are figures such as ``few_recall``, of
            the buckets that have a clip.
        evaluation: Limits of the buckets; the usual ones if not given.
    """

    full_state_update = False
    norm: Tensor
    steps: Tensor
    confusion: Tensor
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
        self.train_counts, self.evaluation = train_counts, evaluation
        self.add_state("confusion", torch.zeros(num_classes * num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("nll", "loss", "norm"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")
        for name in ("clips", "steps"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor, loss: Tensor) -> None:
        """Add a batch: logits ``(B, K)``, target ``(B,)``, the batch's mean loss (a scalar)."""
        cell = target * self.num_classes + logits.argmax(dim=1)
        self.confusion += torch.bincount(cell, minlength=self.num_classes**2)
        self.nll -= log_probabilities(logits).gather(1, target[:, None]).sum()
        self.loss += loss.float() * len(target)
        self.clips += len(target)

    def add_step(self, norm: Tensor) -> None:
        """Add an optimizer's step by the norm of its gradient, a scalar."""
        # A step that mixed precision skips has an infinite gradient; a run that diverges is seen by its loss.
        self.norm += torch.where(norm.isfinite(), norm.detach(), 0.0)
        self.steps += 1

    def snapshot(self) -> dict[str, Tensor]:
        """Return what was added so far."""
        return {name: getattr(self, name).clone() for name in self._defaults}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a snapshot."""
        for name in self._defaults:
            setattr(self, name, state[name].to(getattr(self, name)))
        self._update_count = int(self.clips > 0)  # else the metric warns that nothing was ever added

    def compute(self) -> dict[str, float]:
        """Return the epoch's figures by their prefixed names; ``grad_norm`` is the mean over optimizer steps."""
        confusion = self.confusion.reshape(self.num_classes, self.num_classes).cpu().numpy()
        clips = int(self.clips)
        figures = {"loss": float(self.loss) / clips, "nll": float(self.nll) / clips, **summarise(confusion)}
        if int(self.steps):
            figures["grad_norm"] = float(self.norm) / int(self.steps)
        if self.train_counts is not None:
            for bucket, row in bucket_table(confusion, self.train_counts, self.evaluation).items():
                measured = {f"{bucket}_{name}": row[name] for name in ("recall", "f1")}
                figures |= {name: float(value) for name, value in measured.items() if value is not None}
        return {self.prefix + name: value for name, value in figures.items()}
