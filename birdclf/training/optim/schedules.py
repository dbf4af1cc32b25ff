"""Learning-rate schedules, stepped once an epoch; every parameter group keeps its own base rate."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from birdclf.checks import above, in_range, whole
from birdclf.errors import UserError


def warmup_step(optimizer: Optimizer, warmup_epochs: int = 5, step_epochs: int = 10, factor: float = 0.5) -> LambdaLR:
    """Rise linearly to the base rate over the warmup, then multiply by ``factor`` every ``step_epochs``.

    The study's schedule: with the defaults the first epoch runs at a fifth of the base rate, and the rate halves after
    epochs 15, 25 and 35.

    Raises:
        UserError: If an argument is out of range.
    """
    _check_warmup(warmup_epochs)
    whole("scheduler.step_epochs", step_epochs, 1)
    above("scheduler.factor", factor, 0, 1)

    def share(epoch: int) -> float:
        if epoch < warmup_epochs:
            return (epoch + 1) / warmup_epochs
        return factor ** ((epoch - warmup_epochs) // step_epochs)

    return LambdaLR(optimizer, share)


def warmup_cosine(optimizer: Optimizer, max_epochs: int, warmup_epochs: int = 5, floor: float = 0.01) -> LambdaLR:
    """Rise linearly to the base rate, then fall along a half cosine (Loshchilov and Hutter, 2017, equation 5).

    At epoch ``max_epochs`` the rate has fallen to ``floor`` times the base rate, in [0, 1].

    Raises:
        UserError: If an argument is out of range.
    """
    _check_warmup(warmup_epochs)
    in_range("scheduler.floor", floor, 0, 1)

    def share(epoch: int) -> float:
        if epoch < warmup_epochs:
            return (epoch + 1) / warmup_epochs
        progress = min(1.0, (epoch - warmup_epochs) / max(1, max_epochs - 1 - warmup_epochs))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, share)


def plateau(
    optimizer: Optimizer, mode: str, patience: int = 3, factor: float = 0.5, min_lr: float = 1e-6
) -> ReduceLROnPlateau:
    """Multiply the rate by ``factor`` when the monitored metric has not improved for ``patience`` epochs.

    ``mode``, ``min`` or ``max``, is the better direction of the metric. The base rate stops falling at ``min_lr``, that
    of a group at the same share of its own.

    Raises:
        UserError: If an argument is out of range.
    """
    whole("scheduler.patience", patience, 0)
    in_range("scheduler.min_lr", min_lr, 0)
    if above("scheduler.factor", factor, 0, 1) == 1:
        raise UserError("scheduler.factor is 1, so that the rate would never fall; it must be below 1.")
    shares = [group.get("factor", 1.0) for group in optimizer.param_groups]
    return ReduceLROnPlateau(
        optimizer, mode=mode, patience=patience, factor=factor,  # type: ignore[arg-type]
        min_lr=[min_lr * share for share in shares], eps=1e-8 * min(shares),
    )  # fmt: skip


def constant(optimizer: Optimizer) -> LambdaLR:
    """Keep the base rate."""
    return LambdaLR(optimizer, lambda epoch: 1.0)


def _check_warmup(epochs: int) -> None:
    whole("scheduler.warmup_epochs", epochs, 0)
