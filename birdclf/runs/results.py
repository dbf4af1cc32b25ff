"""Figures, tables and pictures of predictions, after correction and calibration on validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from birdclf.config import direction
from birdclf.data.tables import csv_text
from birdclf.files import write_whole
from birdclf.metrics.calibration import reliability
from birdclf.metrics.figures import Evaluation, log_softmax, precision_recall_f1
from birdclf.metrics.label_predictions import AnyPredictions, LabelPredictions
from birdclf.metrics.label_predictions import per_class_table as per_class_table_of_sets
from birdclf.metrics.plots import (
    Picture,
    confusion_picture,
    per_class_figure,
    picture_of,
    precision_recall_figure,
    reliability_figure,
)
from birdclf.metrics.predictions import per_class_table, write_predictions
from birdclf.models.head import output_layer
from birdclf.posthoc.base import Adjustment, Adjusts, Logits, OutputRows, PostHoc
from birdclf.posthoc.energy import Rejection
from birdclf.targets import task_of
from birdclf.text import printable

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """Turns a network's logits into a run's predictions; fitted on validation after training.

    Attributes:
        adjustment: Correction of logits; None for none.
        temperature: Divisor of corrected logits, for calibrated probabilities.
    """

    adjustment: Adjusts | None
    temperature: float

    def adjusted(self, raw: Mapping[str, AnyPredictions]) -> dict[str, AnyPredictions]:
        """Return the predictions of each split, adjusted."""
        return {stage: adjusted(p, self.adjustment) for stage, p in raw.items()}

    def metrics(self, raw: Mapping[str, AnyPredictions], train_counts: Counts, settings: Evaluation) -> dict[str, Any]:
        """Return the figures of each split and the calibration; figures before an adjustment as ``unadjusted``.

        Of a rejection, which changes no figure, ``rejection`` has the threshold and the share of each split that it
        rejects.

        ``raw`` holds the network's predictions of each split; ``train_counts`` the ``(K,)`` train recordings.
        """
        figures = figures_of(self.adjusted(raw), train_counts, settings, self.temperature)
        figures |= {"temperature": self.temperature}
        if isinstance(self.adjustment, Rejection):
            shares = {f"{stage}_rejected": float(self.adjustment.rejects(p.logits).mean()) for stage, p in raw.items()}
            figures["rejection"] = {"score": "energy", **as_dict(self.adjustment), **shares}
        elif self.adjustment is not None:
            figures["adjustment"] = as_dict(self.adjustment)
            figures["unadjusted"] = {stage: p.figures(train_counts, settings) for stage, p in raw.items()}
        return figures


def fit_calibration(
    posthoc: PostHoc,
    val: AnyPredictions,
    class_counts: Sequence[int],
    monitor: str,
    rows: OutputRows | None = None,
    prior_logits: Tensor | None = None,
) -> Calibration:
    """Fit post-hoc correction and temperature on the network's predictions of the validation split.

    ``class_counts`` are the ``(K,)`` train examples of each class, as the loss gets them; ``monitor`` is the metric
    that a tau is tuned for, such as ``val/macro_f1``; ``rows`` are those of the output layer, see :func:`rows_of`;
    ``prior_logits`` is what the loss added to the logits, and the probabilities of sets get back.
    """
    if prior_logits is not None:
        back = Adjustment(1.0, tuple(torch.exp(-prior_logits.double()).tolist()))
        return Calibration(back, adjusted(val, back).temperature())
    adjustment = posthoc.fit(val.logits, class_counts, lambda logits: _score(logits, val, monitor), rows)
    return Calibration(adjustment, adjusted(val, adjustment).temperature())


def rows_of(network: nn.Module, num_classes: int) -> OutputRows | None:
    """Return norm and bias of each class in the output layer of a network of K outputs; None if it is not linear."""
    layer = output_layer(network, num_classes)
    if not isinstance(layer, nn.Linear):
        return None
    lengths = layer.weight.detach().double().norm(dim=1)
    bias = torch.zeros_like(lengths) if layer.bias is None else layer.bias.detach().double()
    return OutputRows(tuple(lengths.tolist()), tuple(bias.tolist()))


def adjusted(p: AnyPredictions, adjustment: Adjusts | None) -> AnyPredictions:
    """Return predictions with adjusted logits."""
    return p if adjustment is None else replace(p, logits=adjustment.apply(p.logits))


def as_dict(adjustment: Adjusts) -> dict[str, Any]:
    """Return an adjustment as plain values, as in ``metrics.json``."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(adjustment).items()}


def _score(logits: Logits, val: AnyPredictions, monitor: str) -> float:
    value = score(replace(val, logits=logits), monitor)
    return value if direction(monitor) == "max" else -value


def score(predictions: AnyPredictions, monitor: str) -> float:
    """Return a metric of predictions, such as ``val/macro_f1`` or ``val/nll``."""
    return predictions.score(monitor.partition("/")[2])


def figures_of(
    predictions: Mapping[str, AnyPredictions], train_counts: Counts, settings: Evaluation, temperature: float
) -> dict[str, Any]:
    """Return the figures of each split, and those of its probabilities after temperature scaling.

    The temperature (Guo et al., 2017, equation 9) changes no decision. ``train_counts`` are ``(K,)`` train recordings.
    """
    return {
        stage: p.figures(train_counts, settings) | p.at_temperature(temperature, settings)
        for stage, p in predictions.items()
    }


def write_tables(
    folder: Path,
    predictions: Mapping[str, AnyPredictions],
    classes: tuple[str, ...],
    supports: Mapping[str, Counts],
    settings: Evaluation,
    temperature: float,
    pictures: bool = True,
) -> dict[str, Picture]:
    """Write predictions, uncalibrated, and the tables and pictures of the test split; return the pictures by name.

    ``supports`` are the ``(K,)`` recordings of each class by split, train and test at least. The temperature is that of
    the second reliability diagram. Without ``pictures`` none is drawn.
    """
    write_predictions(folder / "predictions.parquet", [p.table(s, classes) for s, p in predictions.items()])
    test = predictions["test"]
    if isinstance(test, LabelPredictions):
        own = per_class_table_of_sets(test, classes, dict(supports), settings)
        write_whole(folder / "per_class.csv", csv_text(own))
        curves = test.precision_recall(supports["train"], settings) if pictures else {}
        figure = precision_recall_figure(curves, settings.coverage) if curves else None
        return _written(folder, {"precision_recall": picture_of(figure)} if figure else {})
    confusion = pd.DataFrame(test.confusion, columns=list(classes))
    confusion.insert(0, "species", classes, allow_duplicates=True)
    for name, table in (("per_class", per_class_table(test, classes, dict(supports))), ("confusion_matrix", confusion)):
        write_whole(folder / f"{name}.csv", csv_text(table))
    if not pictures:
        return {}
    before, after = (
        reliability(np.exp(log_softmax(test.logits.astype(np.float64) / t)), test.target, settings.bins)
        for t in (1.0, temperature)
    )
    f1 = precision_recall_f1(test.confusion)[2]
    drawn = {
        "confusion_matrix": confusion_picture(test.confusion, classes),
        "per_class_f1": picture_of(per_class_figure(f1, supports["train"], supports["test"])),
        "reliability": picture_of(reliability_figure(before)),
        "reliability_calibrated": picture_of(reliability_figure(after, temperature)),
    }
    return _written(folder, drawn)


def _written(folder: Path, drawn: dict[str, Picture]) -> dict[str, Picture]:
    for name, picture in drawn.items():
        (folder / f"{name}.png").write_bytes(picture.png)
    return drawn


SHOWN = (
    *("accuracy", "top5_accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "macro_average_precision"),
    *("nll", "ece", "ece_calibrated"),
)
SHOWN_OF_SETS = (
    *("cmap", "auroc", "t1_accuracy", "macro_f1", "micro_f1", "recall_at_precision", "precision_at_recall"),
    *("false_detections_per_hour", "nll", "ece", "ece_calibrated"),
)


def print_results(metrics: dict[str, Any], folder: Path) -> None:
    """Print validation and test figures, and the run folder."""
    title = f"epoch {metrics['best_epoch']} of {metrics['epochs']}, best by {metrics['monitor']}"
    print_table(title, {stage: metrics[stage] for stage in ("val", "test")})
    Console().print(printable(f"run folder: {folder}"), soft_wrap=True, highlight=False, markup=False)


def print_table(title: str, figures: dict[str, Any]) -> None:
    """Print the figures of each split side by side."""
    table = Table(title=Text(printable(title)))  # a str could hold markup
    table.add_column("")
    for stage, values in figures.items():
        table.add_column(f"{stage} ({values['clips']} clips)", justify="right")
    of_sets = any(task_of(values) == "multi_label" for values in figures.values())
    for name in SHOWN_OF_SETS if of_sets else SHOWN:
        table.add_row(name, *(_cell(values.get(name)) for values in figures.values()))
    measured = "cmap" if of_sets else "recall"
    for bucket in ("many", "medium", "few"):
        cells = []
        for values in figures.values():
            row = values["buckets"][bucket]
            cells.append("-" if row[measured] is None else f"{_cell(row[measured])} ({row['classes']} species)")
        table.add_row(f"{measured}, {bucket}-shot", *cells)
    Console().print(table)


def _cell(figure: float | dict[str, Any] | None) -> str:
    if figure is None or (isinstance(figure, dict) and figure["value"] is None):
        return "-"
    if isinstance(figure, dict):
        return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure:.3f}"
