"""The ``evaluate`` command: a run's checkpoint, evaluated again."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from birdclf.config import folder_name
from birdclf.errors import UserError
from birdclf.files import refuse_existing
from birdclf.metrics.label_predictions import AnyPredictions
from birdclf.runs.opening import OpenedRun, calibration_of, open_run
from birdclf.runs.predictor import predict
from birdclf.runs.results import Calibration, print_table, write_tables
from birdclf.runs.run import METRICS, Run
from birdclf.text import printable


def differences(written: dict[str, Any], measured: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield a line for each measured figure that is not exactly the written one, its name behind ``place``.

    Written figures that were not measured are ignored.
    """
    for name, value in measured.items():
        before = written.get(name, "nothing")
        if isinstance(value, dict) and isinstance(before, dict):
            yield from differences(before, value, f"{place}{name}.")
        elif value != before:
            yield f"{place}{name}: {before} in metrics.json, {value} now"


def evaluate(
    run: Path,
    checkpoint: str = "best",
    window: str | None = None,
    source: Sequence[str] = (),
    out: Path | None = None,
    trusted: Collection[str] = (),
    embedder: Path | None = None,
) -> bool:
    """Predict with a run's checkpoint, and compare with ``metrics.json`` or write a separate evaluation.

    If nothing has changed but the place of the recordings, the figures must equal those of ``metrics.json``. If an
    option of :func:`birdclf.runs.opening.open_run` differs, they go to a new folder: ``out``, or
    ``RUN/evaluations/NAME``.

    Returns:
        Whether the figures are equal; True if there is nothing to compare with.

    Raises:
        UserError: If something is missing, does not fit together, or the folder exists.
    """
    opened = open_run(run, checkpoint, window, source, trusted, embedder=embedder)
    policy, own = opened.window, opened.cfg.window.eval
    changes = [word for word, changed in ((checkpoint, checkpoint != "best"), (policy, policy != own)) if changed]
    if not opened.recordings.own:
        changes.append(folder_name(" ".join(source)))
    folder = out or (run / "evaluations" / "_".join(changes) if changes else None)
    if folder is not None:
        refuse_existing(folder, "Choose another folder with --out.")
    raw = predict(opened.trainer, opened.loaded.predictor, opened.recordings.loaders, opened.recordings.source.table)
    metrics = _measure(opened, raw, calibration_of(opened, raw, trusted), checkpoint, folder)
    if folder is None:
        return _compare(run, metrics)
    print(f"evaluation folder: {printable(folder)}")
    return True


def _measure(
    opened: OpenedRun, raw: Mapping[str, AnyPredictions], calibration: Calibration, checkpoint: str, folder: Path | None
) -> dict[str, Any]:
    """Print the figures, write them if a folder is given, and return them."""
    loaded, recordings, settings, window = opened.loaded, opened.recordings, opened.settings, opened.window
    metrics = calibration.metrics(raw, recordings.supports["train"], settings) | {"best_epoch": loaded.epoch}
    figures = {stage: metrics[stage] for stage in raw}
    if folder is not None:
        folder.mkdir(parents=True)
        facts = {
            "run": opened.folder.name,
            "checkpoint": checkpoint,
            "window": window,
            "catalog": {"name": recordings.source.name, "content_hash": recordings.source.content_hash},
            "trained_on": recordings.trained_on,
        }
        (folder / "metrics.json").write_text(json.dumps(metrics | facts, indent=1))
        adjusted, temperature = calibration.adjusted(raw), calibration.temperature
        write_tables(folder, adjusted, loaded.classes, recordings.supports, settings, temperature)
    print_table(f"{checkpoint} checkpoint, epoch {loaded.epoch}, window {window}, {recordings.source.name}", figures)
    if recordings.trained_on:
        print(f"{recordings.trained_on} of these recordings were in the run's train split: its figures are too good")
    return metrics


def _compare(run: Path, metrics: dict[str, Any]) -> bool:
    try:
        written = Run(run).metrics
    except UserError as error:
        raise UserError(f"{error} Or write the figures to a new folder by --out DIR.") from error
    file = run / METRICS
    found = list(differences(written, json.loads(json.dumps(metrics))))
    for line in found:
        print(printable(line))
    print(f"{len(found)} figures differ from {printable(file)}" if found else "equal to metrics.json")
    return not found
