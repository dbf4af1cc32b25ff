"""Compiles the network when training begins."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from birdclf.errors import UserError


class Compile(Callback):
    """Lets ``torch.compile`` turn the network into fused kernels, in place, so that checkpoints keep its names.

    Args:
        backend: Name of the backend; ``inductor`` makes kernels, ``eager`` only follows the network.

    Raises:
        UserError: If there is no such backend.
    """

    def __init__(self, backend: str) -> None:
        known = torch.compiler.list_backends(exclude_tags=())
        if backend not in known:
            raise UserError(f"trainer.compile is {backend!r}; it must be null or one of {', '.join(known)}.")
        self.backend = backend

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compile; the work is done at the first batch."""
        if stage == "fit":
            network = pl_module.network
            assert isinstance(network, nn.Module)
            network.compile(backend=self.backend)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the network its own code back: a run's figures are made by the same arithmetic as an evaluation's."""
        pl_module.network._compiled_call_impl = None  # type: ignore[union-attr]  # torch has no way back of its own
