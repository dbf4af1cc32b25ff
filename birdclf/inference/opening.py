"""A run folder, opened to be judged: its settings, its checkpoint and its recordings."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
from omegaconf import DictConfig

from birdclf.allocator import keep_freed_memory
from birdclf.errors import UserError
from birdclf.evaluation.adjustment import PostHoc, Unadjusted
from birdclf.evaluation.predictions import Predictions
from birdclf.evaluation.settings import Evaluation
from birdclf.inference.checkpoint import LoadedRun, load_run
from birdclf.inference.recordings import Recordings, open_recordings
from birdclf.inference.settings import built, check_preprocessing, read_settings
from birdclf.training.fitted import Fitted, fit_on_validation, rows_of


@dataclass(frozen=True)
class OpenedRun:
    """What judging a run takes.

    Attributes:
        folder: The run folder.
        cfg: Its settings, with the source that is used.
        loaded: Its checkpoint.
        window: Which window of a recording is used.
        recordings: What is predicted.
        trainer: Predicts with it.
        settings: Limits, bins and intervals.
    """

    folder: Path
    cfg: DictConfig
    loaded: LoadedRun
    window: str
    recordings: Recordings
    trainer: pl.Trainer
    settings: Evaluation


def open_run(
    run: Path,
    checkpoint: str = "best",
    window: str | None = None,
    source: Sequence[str] = (),
    trusted: Collection[str] = (),
    with_train: bool = False,
) -> OpenedRun:
    """Open a run folder; features are computed where the store lacks them.

    Args:
        run: The run folder.
        checkpoint: ``best`` or ``last``.
        window: Which window of a recording is used; None for the run's own choice.
        source: Settings of another source, such as ``data.root=DIR``.
        trusted: Top-level packages beside ``birdclf`` whose code the run folder may name.
        with_train: Whether the train split is wanted too, in windows as in training.

    Raises:
        UserError: If something is missing or does not fit together.
    """
    check_folder(run)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    keep_freed_memory()
    cfg = read_settings(run, source, trusted)
    loaded = load_run(run, checkpoint, trusted)
    check_preprocessing(cfg, loaded, run, trusted)
    policy = window or str(cfg.window.eval)
    recordings = open_recordings(cfg, run, loaded, policy, bool(source), trusted, with_train)
    trainer = built(
        cfg, "trainer", pl.Trainer, run, trusted, alone=True, callbacks=[], logger=False, default_root_dir=run
    )
    settings = built(cfg, "evaluation", Evaluation, run, trusted)
    return OpenedRun(run, cfg, loaded, policy, recordings, trainer, settings)


def check_folder(run: Path) -> None:
    """Refuse what is no folder.

    Raises:
        UserError: If it is none.
    """
    if not run.is_dir():
        raise UserError(f"{run} is no folder. Give the folder of a run, such as outputs/run/2026-01-31_12-00-00.")


def fitted_of(opened: OpenedRun, raw: Mapping[str, Predictions], trusted: Collection[str] = ()) -> Fitted:
    """Return what the checkpoint keeps of what was fitted, which a run fits for its best one alone, or fit it here.

    Args:
        opened: The run.
        raw: Predictions of each split by its name, as the network gives them.
        trusted: Top-level packages beside ``birdclf`` whose code the run folder may name.

    Raises:
        UserError: If there is nothing to fit it on.
    """
    cfg, loaded, recordings = opened.cfg, opened.loaded, opened.recordings
    if loaded.temperature is not None:
        return Fitted(loaded.adjustment, loaded.temperature)
    posthoc: PostHoc = Unadjusted()
    if "posthoc" in cfg:  # older runs have none
        posthoc = built(cfg, "posthoc", PostHoc, opened.folder, trusted)  # type: ignore[type-abstract]
    if val := raw.get("val"):
        rows = rows_of(loaded.predictor.network, len(loaded.classes))
        return fit_on_validation(posthoc, val, recordings.supports["train"].tolist(), cfg.monitor, rows)
    if posthoc.corrects_prior:
        raise UserError(
            "The logits of this checkpoint are adjusted by validation recordings, which this source has none of. Use "
            "--checkpoint best, which keeps its adjustment."
        )
    return Fitted(None, 1.0)
