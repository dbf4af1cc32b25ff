"""Weights of several networks of one architecture, averaged into one that can be used."""

from collections.abc import Callable, Mapping, Sequence

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from birdclf.data.dataset import Batch
from birdclf.models.norm_statistics import batch_norms, measuring
from birdclf.training.predictor import Predictor

Weights = Mapping[str, Tensor]


def mean_weights(ingredients: Sequence[Weights]) -> dict[str, Tensor]:
    """Return the mean of tensors of the same names and shapes; of whole numbers, those of the first.

    Args:
        ingredients: One or more.
    """
    first = ingredients[0]
    if len(ingredients) == 1:
        return {name: value.clone() for name, value in first.items()}
    return {
        name: torch.stack([each[name].double() for each in ingredients]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in first.items()
    }


def renew_norms(trainer: pl.Trainer, predictor: Predictor, batches: DataLoader[Batch]) -> None:
    """Measure the running statistics of a network's batch norms anew (Izmailov et al., 2018, section 3.2).

    They become the mean over windows; all else is as when the network is used. Without batch norms nothing is done.

    Args:
        trainer: Its device and precision are used.
        predictor: Its network's batch norms are changed.
        batches: Of the train split.
    """
    norms = batch_norms(predictor.network)
    if norms:
        with measuring(predictor, norms) as weigh:
            trainer.predict(_Measuring(predictor, weigh), dataloaders=batches)


class _Measuring(pl.LightningModule):
    """Runs train windows through a network whose norms listen."""

    def __init__(self, predictor: Predictor, weigh: Callable[[int], None]) -> None:
        super().__init__()
        self.predictor, self.weigh = predictor, weigh

    def on_predict_model_eval(self) -> None:
        """Leave the modes of the layers alone: the norms listen."""

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Pass a batch through; a single window, which a norm of vectors cannot take, is left out."""
        if len(batch.bands) > 1:
            self.weigh(len(batch.bands))
            self.predictor(batch.bands)
        return batch.target.cpu()  # the trainer warns of a step that gives nothing
