"""The ``evaluate`` command: a run's checkpoint, judged again."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from birdclf.config import folder_name
from birdclf.errors import UserError
from birdclf.files import refuse_existing
from birdclf.metrics.predictions import Predictions
from birdclf.runs.fitted import Fitted
from birdclf.runs.opening import OpenedRun, fitted_of, open_run
from birdclf.runs.predictor import predict, write_tables
from birdclf.runs.summary import print_table
from birdclf.text import shown


def differences(written: dict[str, Any], measured: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield a line for each measured figure that is not the written one, to the last digit.

    Args:
        written: Figures of ``metrics.json``; keys that were not measured are passed over.
        measured: Figures of now.
        place: Dotted name of where the figures stand, with a dot at its end.
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
) -> bool:
    """Predict with a run's checkpoint, and compare with ``metrics.json`` or write an evaluation of its own.

    With nothing changed, or nothing but where the recordings lie, the figures have to be those of ``metrics.json``.

    Args:
        run: The run folder.
        checkpoint: ``best`` or ``last``.
        window: Which window of a recording is used; None for the run's own choice.
        source: Settings of another source, such as ``data.root=DIR``.
        out: New folder of the evaluation; None for ``RUN/evaluations/NAME`` where something is changed.
        trusted: Top-level packages beside ``birdclf`` whose code the run folder may name.

    Returns:
        Whether the figures are equal; True where there is nothing to compare with.

    Raises:
        UserError: If something is missing, does not fit together, or the folder exists.
    """
    opened = open_run(run, checkpoint, window, source, trusted)
    policy, own = opened.window, opened.cfg.window.eval
    changes = [word for word, changed in ((checkpoint, checkpoint != "best"), (policy, policy != own)) if changed]
    if not opened.recordings.own:
        changes.append(folder_name(" ".join(source)))
    folder = out or (run / "evaluations" / "_".join(changes) if changes else None)
    if folder is not None:
        refuse_existing(folder, "Choose another folder with --out.")
    raw = predict(opened.trainer, opened.loaded.predictor, opened.recordings.loaders, opened.recordings.source.table)
    metrics = _measure(opened, raw, fitted_of(opened, raw, trusted), checkpoint, folder)
    if folder is None:
        return _compare(run, metrics)
    print(f"evaluation folder: {shown(folder)}")
    return True


def _measure(
    opened: OpenedRun, raw: Mapping[str, Predictions], fitted: Fitted, checkpoint: str, folder: Path | None
) -> dict[str, Any]:
    """Write the figures where a folder is given, print their table, and return them."""
    loaded, recordings, settings, window = opened.loaded, opened.recordings, opened.settings, opened.window
    metrics = fitted.metrics(raw, recordings.supports["train"], settings) | {"best_epoch": loaded.epoch}
    figures = {stage: metrics[stage] for stage in raw}
    if folder is not None:
        folder.mkdir(parents=True)
        facts = {
            "run": opened.folder.name,
            "checkpoint": checkpoint,
            "window": window,
            "catalog": {"name": recordings.source.name, "content_hash": recordings.source.content_hash},
            "trained_on": recordings.heard,
        }
        (folder / "metrics.json").write_text(json.dumps(metrics | facts, indent=1))
        adjusted, temperature = fitted.adjusted(raw), fitted.temperature
        write_tables(folder, adjusted, loaded.classes, recordings.supports, settings, temperature)
    print_table(f"{checkpoint} checkpoint, epoch {loaded.epoch}, window {window}, {recordings.source.name}", figures)
    if recordings.heard:
        print(f"{recordings.heard} of these recordings were in the run's train split: the figures flatter it")
    return metrics


def _compare(run: Path, metrics: dict[str, Any]) -> bool:
    file = run / "metrics.json"
    try:
        written = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{file} does not exist: the run did not finish, so there is nothing to compare with. --out DIR writes the "
            f"figures there."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}. --out DIR writes the figures anew.") from error
    found = list(differences(written, json.loads(json.dumps(metrics)))) if isinstance(written, dict) else ["no figures"]
    for line in found:
        print(shown(line))
    print(f"{len(found)} figures differ from {shown(file)}" if found else "equal to metrics.json")
    return not found
