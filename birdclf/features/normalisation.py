"""What features are normalised by: mean and standard deviation over the train split."""

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor

LEAST_STD: Final = 1e-5


def mean_and_std(stacks: Iterable[Tensor], shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel and band, in float64, the latter at least 1e-5.

    Args:
        stacks: Each ``(B, C, F, frames)``.
        shape: ``(C, F, 1)``.

    Raises:
        ValueError: If there is no window.
    """
    count = 0
    total = torch.zeros(shape, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for stack in stacks:
        stack = stack.double()
        count += stack.shape[0] * stack.shape[-1]
        total += stack.sum(dim=(0, 3)).unsqueeze(-1)
        squares += stack.square().sum(dim=(0, 3)).unsqueeze(-1)
    if not count:
        raise ValueError("no window to fit the normalisation on")
    mean = total / count
    return mean, (squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(LEAST_STD)
