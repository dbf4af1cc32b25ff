"""What processes that train together tell each other."""

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")


def processes() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def batch_of_all(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and targets of the batch of all processes; only this process's own rows carry a gradient.

    A loss of them is the loss of the whole batch, whatever it divides by, and its gradients summed over the processes
    are those of one process with that batch.

    Args:
        logits: ``(B, K)`` of this process; B may differ between them.
        target: ``(B,)``.
    """
    counts = _gather(torch.tensor([len(target)], device=target.device))
    sizes = [int(count) for count in counts]
    longest = max(sizes)
    own = dist.get_rank()
    all_logits, all_targets = (_gather(_padded(part.detach(), longest)) for part in (logits, target))
    all_logits[own] = logits
    cut = [torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)]) for parts in (all_logits, all_targets)]
    return cut[0], cut[1]


def value_of_each(value: Value) -> list[Value]:
    """Return a plain value of every process, in the order of their ranks."""
    if processes() == 1:
        return [value]
    values: list[Value | None] = [None] * processes()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def _padded(part: Tensor, length: int) -> Tensor:
    return torch.cat([part, part.new_zeros(length - len(part), *part.shape[1:])])


def _gather(part: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, part.contiguous())
    return parts
