"""What is fitted on validation once training is over: the adjustment of logits, and then their temperature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from birdclf.config import direction
from birdclf.metrics.calibration import fit_temperature
from birdclf.metrics.figures import Evaluation, confusion_matrix, log_softmax, negative_log_likelihood, summarise
from birdclf.metrics.predictions import Predictions
from birdclf.models.head import output_layer
from birdclf.posthoc.base import Adjusts, Logits, OutputRows, PostHoc
from birdclf.runs.predictor import Counts, figures_of


@dataclass(frozen=True)
class Fitted:
    """What makes a run's predictions of its network's logits.

    Attributes:
        adjustment: Makes other logits of them; None where nothing does.
        temperature: What adjusted logits are divided by for calibrated probabilities.
    """

    adjustment: Adjusts | None
    temperature: float

    def adjusted(self, raw: Mapping[str, Predictions]) -> dict[str, Predictions]:
        """Return the predictions of each split, adjusted."""
        return {stage: adjusted(p, self.adjustment) for stage, p in raw.items()}

    def metrics(self, raw: Mapping[str, Predictions], train_counts: Counts, settings: Evaluation) -> dict[str, Any]:
        """Return the figures of each split and what was fitted; those before an adjustment as ``unadjusted``.

        Args:
            raw: Predictions of each split by its name, as the network gives them.
            train_counts: ``(K,)`` train recordings of each class.
            settings: Limits, bins and intervals.
        """
        figures = figures_of(self.adjusted(raw), train_counts, settings, self.temperature)
        figures |= {"temperature": self.temperature}
        if self.adjustment is not None:
            figures["adjustment"] = plain(self.adjustment)
            figures["unadjusted"] = {stage: p.figures(train_counts, settings) for stage, p in raw.items()}
        return figures


def fit_on_validation(
    posthoc: PostHoc, val: Predictions, class_counts: Sequence[int], monitor: str, rows: OutputRows | None = None
) -> Fitted:
    """Fit on validation.

    Args:
        posthoc: What is done to logits.
        val: Predictions of the validation split, as the network gives them.
        class_counts: ``(K,)`` train examples of each class, as the loss gets them.
        monitor: Metric that a tau is tuned for, such as ``val/macro_f1``.
        rows: Of the network's output layer, see :func:`rows_of`.
    """
    adjustment = posthoc.fit(val.logits, class_counts, lambda logits: _score(logits, val, monitor), rows)
    return Fitted(adjustment, fit_temperature(adjusted(val, adjustment).logits, val.target))


def rows_of(network: nn.Module, num_classes: int) -> OutputRows | None:
    """Return what the output layer of a network of K outputs has of each class; None where it is not a linear one."""
    layer = output_layer(network, num_classes)
    if not isinstance(layer, nn.Linear):
        return None
    lengths = layer.weight.detach().double().norm(dim=1)
    bias = torch.zeros_like(lengths) if layer.bias is None else layer.bias.detach().double()
    return OutputRows(tuple(lengths.tolist()), tuple(bias.tolist()))


def adjusted(p: Predictions, adjustment: Adjusts | None) -> Predictions:
    """Return predictions with adjusted logits."""
    return p if adjustment is None else replace(p, logits=adjustment.applied(p.logits))


def plain(adjustment: Adjusts) -> dict[str, Any]:
    """Return an adjustment as plain values."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(adjustment).items()}


def _score(logits: Logits, val: Predictions, monitor: str) -> float:
    name = monitor.split("/")[-1]
    if name == "nll":
        value = negative_log_likelihood(log_softmax(logits), val.target)
    else:
        value = summarise(confusion_matrix(val.target, logits.argmax(axis=1), logits.shape[1]))[name]
    return value if direction(monitor) == "max" else -value
