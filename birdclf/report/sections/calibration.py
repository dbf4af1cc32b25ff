"""Calibration: how far probabilities are frequencies."""

from collections.abc import Sequence

import numpy as np

from birdclf.metrics.calibration import Reliability, reliability, set_reliability
from birdclf.metrics.figures import Evaluation, log_softmax
from birdclf.metrics.label_predictions import AnyPredictions, LabelPredictions
from birdclf.metrics.multi_label import probabilities
from birdclf.pages import INK
from birdclf.report.configurations import Configuration
from birdclf.report.document import FIRST, SECOND, Cell, Figure, Section, Table, canvas, number, svg_figure
from birdclf.runs.run import Run

FIGURES = ("ece", "ece_calibrated", "nll", "nll_calibrated")


def calibration_section(ranked: Sequence[Configuration], settings: Evaluation) -> Section:
    """Return the section: one row per configuration, and the reliability of the best one before and after."""
    rows = tuple(_row(configuration) for configuration in ranked)
    head = ("configuration", "temperature", "ECE", "ECE after", "NLL, nats", "NLL after")
    per = "" if ranked[0].task == "single_label" else ", the mean over species"
    text = (
        f"Expected calibration error on test data in {settings.bins} bins{per}, and NLL, as they come out of the "
        f"network and after temperature scaling (Guo et al., 2017), with a temperature fitted on validation; means "
        f"over seeds. A temperature above 1 means that the network is surer than it ought to be."
    )
    drawing = reliability_drawing(ranked[0].label, ranked[0].first, settings)
    table = Table("Calibration of each configuration", head, rows)
    return Section("calibration", "Calibration", (text, drawing, table))


def reliability_drawing(label: str, run: Run, settings: Evaluation) -> Figure:
    """Return accuracy against confidence on test data, before and, where a temperature is known, after scaling."""
    temperature, of_one = run.metrics.get("temperature"), run.task == "single_label"
    with canvas(5, 3.2) as picture:
        axes = picture.subplots()
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        scales = [(1.0, FIRST, "o"), *([(float(temperature), SECOND, "s")] if temperature else [])]
        for scale, colour, marker in scales:
            bins = _reliability(run.test, scale, settings)
            held = bins.count > 0
            size = 8 + 60 * bins.count[held] / bins.count.max()
            axes.plot(bins.confidence[held], bins.accuracy[held], color=colour, linewidth=1.2)
            axes.scatter(bins.confidence[held], bins.accuracy[held], s=size, color=colour, marker=marker)
        axes.set_xlabel("probability of the answer" if of_one else "probability of a species")
        axes.set_ylabel("share that is right" if of_one else "share in which it is heard")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        marks = "clips" if of_one else "species and clips"
        caption = f"Circles: as it comes out of the network. A larger mark stands for more {marks}; dotted is perfect."
        if temperature:
            caption += f" Squares: after division by the temperature, {temperature:.2f}."
        return svg_figure(
            f"Reliability of {label}, seed {run.seeds}", caption, picture, unique=f"reliability {run.folder}"
        )


def _reliability(test: AnyPredictions, scale: float, settings: Evaluation) -> Reliability:
    if isinstance(test, LabelPredictions):
        return set_reliability(probabilities(test.logits / scale), test.target, settings.bins)
    return reliability(np.exp(log_softmax(test.logits / scale)), test.target, settings.bins)


def _row(configuration: Configuration) -> tuple[Cell, ...]:
    temperatures = [run.metrics.get("temperature") for run in configuration.runs.values()]
    known = [float(value) for value in temperatures if value is not None]
    means = (configuration.mean(f"test/{name}") for name in FIGURES)
    return configuration.label, number(float(np.mean(known)) if known else None, "{:.2f}"), *map(number, means)
