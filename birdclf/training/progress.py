"""How far a run got, read from its snapshots."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from birdclf.disk import refuse_pointer
from birdclf.errors import UserError
from birdclf.training.checkpoint import BEFORE, LAST

log = logging.getLogger(__name__)

STATE_KEY: Final = "Snapshot"
"""Where a checkpoint keeps what Lightning does not."""


@dataclass(frozen=True)
class Progress:
    """How far a snapshot got.

    Attributes:
        path: The file.
        epoch: Epochs that are over.
        seconds: Seconds that training took.
        ending: How training ended, see :func:`ending`; None if it did not.
    """

    path: Path
    epoch: int
    seconds: float
    ending: dict[str, Any] | None


def latest(folder: Path) -> Progress | None:
    """Return how far the newest readable snapshot got in a folder of checkpoints, or None if there is none at all.

    Nothing in the files is executed.

    Raises:
        UserError: If there are snapshots and none can be read.
    """
    damaged = []
    for path in (folder / LAST, folder / BEFORE):
        try:
            content = torch.load(path, map_location="meta", weights_only=True)
            state = content["callbacks"][STATE_KEY]
            found = Progress(path, int(content["epoch"]), float(state["seconds"]), state["ended"])
            _check_paths(content["callbacks"], state["ended"], folder)
        except FileNotFoundError:
            continue
        except Exception:  # a damaged file shows in many ways
            damaged.append(path)
            continue
        if damaged:
            log.warning("%s cannot be read; going on from %s", damaged[0], path.name)
        return found
    if damaged:
        refuse_pointer(damaged[0])
        raise UserError(
            f"{damaged[0]} cannot be read, so that the run cannot go on. Restore it, or move it away to start the run "
            f"from its beginning."
        )
    return None


def _check_paths(callbacks: dict[str, Any], ended: dict[str, Any] | None, folder: Path) -> None:
    """Refuse a snapshot by which training would write to or delete files that are not checkpoints of its folder."""
    paths = [folder / ended["best"]] if ended else []
    for state in callbacks.values():
        # Lightning goes by these where the folder has not moved.
        if "best_k_models" in state and Path(state["dirpath"]).resolve() == folder.resolve():
            kept = [state[name] for name in ("best_model_path", "kth_best_model_path", "last_model_path")]
            paths += [Path(path) for path in (*kept, *state["best_k_models"]) if path]
    if strange := [path for path in paths if path.parent.resolve() != folder.resolve()]:
        raise ValueError(f"{strange[0]} is not in {folder}")


def ending(trainer: pl.Trainer) -> dict[str, Any]:
    """Return how training ended: the ``score`` and file name of the ``best`` weights, and the number of ``epochs``.

    Raises:
        UserError: If it ended before an epoch was validated.
    """
    best = next(c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint))
    if best.best_model_score is None:
        raise UserError(
            "training ended before its first epoch was validated, so that there are no best weights. Let it last "
            "longer (trainer.max_time, callbacks.*)."
        )
    name = Path(best.best_model_path).name
    return {"score": float(best.best_model_score), "best": name, "epochs": trainer.current_epoch}
