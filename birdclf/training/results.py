"""Predictions of recordings, and the figures, tables and pictures that a run and an evaluation make of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from matplotlib.image import imsave
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from birdclf.catalog.tables import csv_text
from birdclf.data.dataset import Batch
from birdclf.disk import write_whole
from birdclf.evaluation.calibration import reliability
from birdclf.evaluation.figures import confusion_figure, drawn, per_class_figure, reliability_figure
from birdclf.evaluation.metrics import (
    expected_calibration_error,
    log_softmax,
    negative_log_likelihood,
    precision_recall_f1,
)
from birdclf.evaluation.predictions import Predictions, per_class_table, write_predictions
from birdclf.evaluation.settings import Evaluation
from birdclf.training.predictor import Predictor

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
