"""Recomputation of the running statistics of batch norms, for averaged weights."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms of a network that keep running statistics."""
    norms = (layer for layer in network.modules() if isinstance(layer, _BatchNorm))
    return [norm for norm in norms if norm.track_running_stats]


@contextmanager
def measuring(module: nn.Module, norms: Sequence[_BatchNorm]) -> Iterator[Callable[[int], None]]:
    """Set the statistics of norms from the batches that pass through a module (Izmailov et al., 2018, section 3.2).

    Everything else is in evaluation mode: no dropout, no stochastic depth. Modes and momenta are restored at the end.

    Yields:
        Function to call before each batch with its number of recordings: the statistics are the mean over recordings.
    """
    momenta = [norm.momentum for norm in norms]
    modes = {layer: layer.training for layer in module.modules()}
    seen = 0

    def weigh(recordings: int) -> None:
        nonlocal seen
        seen += recordings
        for norm in norms:
            norm.momentum = recordings / seen

    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    try:
        yield weigh
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for layer, mode in modes.items():
            layer.training = mode
