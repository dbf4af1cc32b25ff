"""The ``evaluate`` command: a run's checkpoint, judged again."""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from omegaconf import DictConfig

from birdclf.allocator import keep_freed_memory
from birdclf.config import folder_name
from birdclf.errors import UserError
from birdclf.evaluation.adjustment import PostHoc, Unadjusted
from birdclf.evaluation.predictions import Predictions
from birdclf.evaluation.settings import Evaluation
from birdclf.inference.checkpoint import LoadedRun, load_run
from birdclf.inference.differences import differences
from birdclf.inference.recordings import Recordings, open_recordings
from birdclf.inference.settings import built, check_preprocessing, read_settings
from birdclf.quoting import shown
from birdclf.training.fitted import Fitted, fit_on_validation, rows_of
from birdclf.training.results import predict, write_tables
from birdclf.training.summary import print_table


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
    if not run.is_dir():
        raise UserError(f"{run} is no folder. Give the folder of a run, such as outputs/run/2026-01-31_12-00-00.")
    cfg = read_settings(run, source, trusted)
    loaded = load_run(run, checkpoint, trusted)
    check_preprocessing(cfg, loaded, run, trusted)
    policy = window or cfg.window.eval
    changes = [
        word for word, changed in ((checkpoint, checkpoint != "best"), (policy, policy != cfg.window.eval)) if changed
    ]
    recordings = open_recordings(cfg, run, loaded, policy, bool(source), trusted)
    if not recordings.own:
        changes.append(folder_name(" ".join(source)))
    folder = out or (run / "evaluations" / "_".join(changes) if changes else None)
    if folder is not None and folder.exists():
        raise UserError(f"{folder} exists already; nothing is overwritten. Choose another folder with --out.")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    keep_freed_memory()
    trainer = built(
        cfg, "trainer", pl.Trainer, run, trusted, alone=True, callbacks=[], logger=False, default_root_dir=run
    )
    settings = built(cfg, "evaluation", Evaluation, run, trusted)
    raw = predict(trainer, loaded.predictor, recordings.loaders, recordings.source.table)
    fitted = _fitted(cfg, run, loaded, raw, recordings, trusted)
    metrics = _measure(raw, fitted, settings, run, loaded, recordings, policy, checkpoint, folder)
    if folder is None:
        return _compare(run, metrics)
    print(f"evaluation folder: {shown(folder)}")
    return True


def _fitted(
    cfg: DictConfig,
    run: Path,
    loaded: LoadedRun,
    raw: Mapping[str, Predictions],
    recordings: Recordings,
    trusted: Collection[str],
) -> Fitted:
    """Return what the checkpoint keeps of what was fitted, which a run fits for its best one alone, or fit it here."""
    if loaded.temperature is not None:
        return Fitted(loaded.adjustment, loaded.temperature)
    posthoc = built(cfg, "posthoc", PostHoc, run, trusted) if "posthoc" in cfg else Unadjusted()
    if val := raw.get("val"):
        rows = rows_of(loaded.predictor.network, len(loaded.classes))
        return fit_on_validation(posthoc, val, recordings.supports["train"].tolist(), cfg.monitor, rows)
    if posthoc.corrects_prior:
        raise UserError(
            "The logits of this checkpoint are adjusted by validation recordings, which this source has none of. Use "
            "--checkpoint best, which keeps its adjustment."
        )
    return Fitted(None, 1.0)


def _measure(
    raw: Mapping[str, Predictions],
    fitted: Fitted,
    settings: Evaluation,
    run: Path,
    loaded: LoadedRun,
    recordings: Recordings,
    window: str,
    checkpoint: str,
    folder: Path | None,
) -> dict[str, Any]:
    """Print the table, and write all of it where a folder is given; return the metrics."""
    metrics = fitted.metrics(raw, recordings.supports["train"], settings) | {"best_epoch": loaded.epoch}
    figures = {stage: metrics[stage] for stage in raw}
    print_table(f"{checkpoint} checkpoint, epoch {loaded.epoch}, window {window}, {recordings.source.name}", figures)
    if recordings.heard:
        print(f"{recordings.heard} of these recordings were in the run's train split: the figures flatter it")
    if folder is not None:
        folder.mkdir(parents=True)
        facts = {
            "run": run.name,
            "checkpoint": checkpoint,
            "window": window,
            "catalog": {"name": recordings.source.name, "content_hash": recordings.source.content_hash},
            "trained_on": recordings.heard,
        }
        (folder / "metrics.json").write_text(json.dumps(metrics | facts, indent=1))
        adjusted, temperature = fitted.adjusted(raw), fitted.temperature
        write_tables(folder, adjusted, loaded.classes, recordings.supports, settings, temperature)
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
