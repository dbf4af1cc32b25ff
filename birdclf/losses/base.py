"""Base class of losses, and functions for targets and class weights."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from birdclf import checks
from birdclf.errors import UserError
from birdclf.targets import Task


class Loss(nn.Module):
    """A loss of logits and targets, with an optional schedule over epochs.

    Attributes:
        task: Targets that it takes: one class, a set of classes, or None for either. A loss of sets is constructed with
            ``class_counts`` ``(K,)`` and ``examples``, train examples that have each class and all of them.
        corrects_prior: Whether it removes the train prior from the logits, as logit adjustment does.
        weighs_classes: Whether it weights rare classes more.
        cosine_scale: Scale that the network's cosine head must have; None for a loss of any logits.
    """

    task: Task | None = "single_label"
    corrects_prior: bool = False
    weighs_classes: bool = False
    cosine_scale: float | None = None

    @property
    def prior_logits(self) -> Tensor | None:
        """``(K,)`` term that training adds to the logits, which probabilities of sets get back; None for none."""
        return None

    @abstractmethod
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss, a scalar.

        Args:
            logits: ``(B, K)``.
            target: ``(B,)`` classes or ``(B, K)`` probabilities; of sets ``(B, K)`` of 1, 0 and -1 for unknown.
        """

    def begin_epoch(self, epoch: int, max_epochs: int) -> None:
        """Set the loss to an epoch before its steps; the result depends on the arguments alone, for resumed runs."""

    def cut_short(self, epochs: int, max_epochs: int) -> str | None:
        """Return which part of its schedule a training that ended early has missed; None for nothing."""


class PlainLoss(Loss):
    """Adapter for any module of ``(logits, target)``, such as one of torch's."""

    task = None

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the module's loss."""
        loss: Tensor = self.module(logits, target)
        return loss


def as_loss(module: nn.Module) -> Loss:
    """Return a module as a loss."""
    return module if isinstance(module, Loss) else PlainLoss(module)


def as_distribution(target: Tensor, logits: Tensor) -> Tensor:
    """Return a target as probabilities ``(B, K)`` of the logits' type.

    Args:
        target: ``(B,)`` integer classes, or ``(B, K)`` probabilities.
        logits: ``(B, K)``.

    Raises:
        ValueError: If the target has neither shape.
    """
    if target.ndim == 1:
        return functional.one_hot(target, logits.shape[1]).to(logits.dtype)
    if target.shape != logits.shape:
        raise ValueError(f"a target is (B,) classes or (B, K) probabilities; got {tuple(target.shape)}")
    return target.to(logits.dtype)


def inverse_power(class_counts: Tensor, power: float, max_ratio: float | None = None) -> Tensor:
    """Return class weights proportional to ``n_j ** -power``, with mean 1 over the train recordings.

    Args:
        class_counts: ``(K,)`` train recordings of each class; 0 counts as 1.
        power: 0 gives equal weights, 0.5 inverse square root, 1 inverse frequency.
        max_ratio: Largest weight over smallest, at least 1; None for no limit.

    Returns:
        ``(K,)`` float32 weights w with ``sum_j n_j w_j = sum_j n_j``.
    """
    n = class_counts.double().clamp_min(1)
    weight = n**-power
    if max_ratio is not None:
        weight = weight.clamp_max(weight.min() * max_ratio)
    return (weight * n.sum() / (n * weight).sum()).float()


def effective_number(class_counts: Tensor, beta: float) -> Tensor:
    """Return class weights ``(1 - beta) / (1 - beta^n_j)``, rescaled to sum K (Cui et al., 2019, equations 2 and 3).

    Args:
        class_counts: ``(K,)`` train recordings of each class; 0 counts as 1.
        beta: In [0, 1): 0 gives equal weights, a value near 1 inverse frequency.

    Returns:
        ``(K,)`` float32.

    Raises:
        UserError: If ``beta`` is not in [0, 1).
    """
    if in_range("beta", beta, 0, 1) == 1:
        raise UserError("loss.beta is 1; it must be below 1. Near 1, such as 0.9999, weights are inverse frequency.")
    n = class_counts.double().clamp_min(1)
    weight = -1 / torch.expm1(n * (math.log(beta) if beta > 0 else -math.inf))  # 1 - beta cancels in the rescaling
    return (weight * len(n) / weight.sum()).float()


def in_range(name: str, value: float, low: float, high: float = math.inf) -> float:
    """Return ``value``.

    Raises:
        UserError: If it is not a finite number between ``low`` and ``high``.
    """
    return checks.in_range(f"loss.{name}", value, low, high)


def log_probabilities(logits: Tensor) -> Tensor:
    """Return ``log softmax`` with at least float32 precision."""
    return torch.log_softmax(float32_at_least(logits), dim=1)


def float32_at_least(logits: Tensor) -> Tensor:
    """Return logits, those of half precision as float32."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
