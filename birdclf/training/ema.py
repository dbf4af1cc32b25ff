"""An exponential moving average of the weights."""

import lightning.pytorch as pl
from torch import nn

from birdclf.checks import is_number
from birdclf.errors import UserError
from birdclf.training.averaging import Averaging


class MovingAverage(Averaging):
    """After each step ``average = d * average + (1 - d) * weights`` (Kingma and Ba, 2015, section 7.2).

    The statistics of batch norms are the network's own: they are moving averages already.

    Args:
        decay: d, in [0, 1); 0 keeps the weights themselves.
        warmup: Whether d begins small, as ``min(decay, (1 + t) / (10 + t))`` at step t, so that the average forgets the
            random weights that it begins with.

    Raises:
        UserError: If ``decay`` is out of range.
    """

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        super().__init__()
        if not is_number(decay) or not 0 <= decay < 1:
            raise UserError(f"averaging.decay is {decay}; it must be at least 0 and below 1 (0.999 is usual).")
        self.decay, self.warmup = decay, warmup

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the weights that training begins with."""
        if self.average is None:
            network = pl_module.network
            assert isinstance(network, nn.Module)
            self.average = {name: value.clone() for name, value in network.state_dict().items()}

    def on_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the weights of every step."""
        decay = min(self.decay, (1 + self.taken) / (10 + self.taken)) if self.warmup else self.decay
        network = pl_module.network
        assert isinstance(network, nn.Module)
        self.take(network, 1 - decay)
