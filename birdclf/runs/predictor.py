"""A network on stored features that says what a recording is: all of a classifier but its learning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from matplotlib.image import imsave
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from birdclf.data.dataset import Batch
from birdclf.data.tables import csv_text
from birdclf.features.representation import Representation
from birdclf.files import write_whole
from birdclf.metrics.calibration import reliability
from birdclf.metrics.figures import (
    Evaluation,
    expected_calibration_error,
    log_softmax,
    negative_log_likelihood,
    precision_recall_f1,
)
from birdclf.metrics.plots import confusion_figure, drawn, per_class_figure, reliability_figure
from birdclf.metrics.predictions import Predictions, per_class_table, write_predictions

WINDOWS_AT_ONCE = 256  # bounds the memory of an evaluation over all windows of long recordings


class Predictor(pl.LightningModule):
    """Turns stored features into logits.

    Args:
        network: ``(B, C, F, T)`` features to ``(B, K)`` logits.
        features: Fitted feature module, stored bands to ``(B, C, F, T)``.
        channels_last: Keep the network's tensors in channels-last memory format.
    """

    def __init__(self, network: nn.Module, features: Representation, channels_last: bool = True) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.features = features

    def forward(self, bands: Tensor) -> Tensor:
        """Map stored bands ``(W, F, T)`` to logits ``(W, K)``."""
        return self.logits(self.features(bands))

    def logits(self, features: Tensor) -> Tensor:
        """Map normalised features ``(W, C, F, T)`` to logits ``(W, K)``."""
        logits: Tensor = self.network(features.contiguous(memory_format=self.memory_format))
        return logits

    def recording_logits(self, batch: Batch) -> Tensor:
        """Return one row of logits a recording ``(B, K)``, the mean over its windows."""
        if len(batch.bands) == len(batch.target):
            return self.forward(batch.bands)
        logits = torch.cat([self.forward(part) for part in torch.split(batch.bands, WINDOWS_AT_ONCE)])
        return mean_by_owner(logits, batch)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``(recording, target, logits)`` of a batch on the CPU."""
        logits = self.recording_logits(batch)
        return batch.recording.cpu(), batch.target.cpu(), logits.float().cpu()


def mean_by_owner(values: Tensor, batch: Batch) -> Tensor:
    """Return the mean over each recording's windows, ``(W, D)`` to ``(B, D)``."""
    sums = values.new_zeros(len(batch.target), values.shape[1]).index_add_(0, batch.owner, values)
    return sums / torch.bincount(batch.owner, minlength=len(batch.target))[:, None]


Counts = NDArray[np.int64]
Picture = NDArray[np.uint8]


def predict(
    trainer: pl.Trainer, predictor: Predictor, loaders: Mapping[str, DataLoader[Batch]], recordings: pd.DataFrame
) -> dict[str, Predictions]:
    """Return the predictions for each split.

    Args:
        trainer: Its device and precision are used.
        predictor: Makes the logits.
        loaders: Batches of each split by its name.
        recordings: The catalog's table, to whose rows the batches point.
    """
    batches = trainer.predict(predictor, dataloaders=list(loaders.values()))
    assert batches is not None
    parts_of = dict(zip(loaders, [batches] if len(loaders) == 1 else batches, strict=True))
    cluster = recordings.group.where(recordings.group != "", recordings.recording_id).to_numpy(dtype=object)
    ids = recordings.recording_id.to_numpy(dtype=object)
    out = {}
    for stage, parts in parts_of.items():
        row, target, logits = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
        out[stage] = Predictions(ids[row], target, logits, cluster[row])
    return out


def figures_of(
    predictions: Mapping[str, Predictions], train_counts: Counts, settings: Evaluation, temperature: float
) -> dict[str, Any]:
    """Return the figures of each split, and those of its probabilities after temperature scaling.

    Args:
        predictions: Of each split by its name.
        train_counts: ``(K,)`` train recordings of each class.
        settings: Limits, bins and intervals.
        temperature: What logits are divided by (Guo et al., 2017, equation 9); it changes no decision.
    """
    figures = {}
    for stage, p in predictions.items():
        log_p = _log_p(p, temperature)
        figures[stage] = p.figures(train_counts, settings) | {
            "ece_calibrated": expected_calibration_error(np.exp(log_p), p.target, settings.bins),
            "nll_calibrated": negative_log_likelihood(log_p, p.target),
        }
    return figures


def write_tables(
    folder: Path,
    predictions: Mapping[str, Predictions],
    classes: tuple[str, ...],
    supports: Mapping[str, Counts],
    settings: Evaluation,
    temperature: float,
) -> dict[str, Picture]:
    """Write predictions, uncalibrated, and the tables and pictures of the test split; return the pictures by name.

    Args:
        folder: Where they go.
        predictions: Of each split by its name.
        classes: Names of the K classes.
        supports: ``(K,)`` recordings of each class, by split; train and test at least.
        settings: Bins of the reliability figures.
        temperature: What logits are divided by in the second of them.
    """
    write_predictions(folder / "predictions.parquet", [p.table(s, classes) for s, p in predictions.items()])
    test = predictions["test"]
    confusion = pd.DataFrame(test.confusion, columns=list(classes))
    confusion.insert(0, "species", classes, allow_duplicates=True)
    for name, table in (("per_class", per_class_table(test, classes, dict(supports))), ("confusion_matrix", confusion)):
        write_whole(folder / f"{name}.csv", csv_text(table))
    before, after = (reliability(np.exp(_log_p(test, t)), test.target, settings.bins) for t in (1.0, temperature))
    f1 = precision_recall_f1(test.confusion)[2]
    figures = {
        "confusion_matrix": confusion_figure(test.confusion, classes),
        "per_class_f1": per_class_figure(f1, supports["train"], supports["test"]),
        "reliability": reliability_figure(before),
        "reliability_calibrated": reliability_figure(after, temperature),
    }
    pictures = {name: drawn(figure) for name, figure in figures.items()}
    for name, picture in pictures.items():
        imsave(folder / f"{name}.png", picture)
    return pictures


def _log_p(p: Predictions, temperature: float) -> NDArray[np.float64]:
    return log_softmax(p.logits.astype(np.float64) / temperature)
