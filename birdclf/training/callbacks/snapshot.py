"""Snapshots of a run in training, from which it is resumed to the same end, bit for bit on a CPU."""

import errno
import logging
import random
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from birdclf.checks import in_range
from birdclf.errors import UserError
from birdclf.files import refuse_pointer
from birdclf.runs.checkpoint import BEFORE, LAST
from birdclf.training.module import EpochMetrics, value_of_each, waits_for_step


class Interrupts:
    """Records in ``seen`` that a first Ctrl-C has come; a second one stops at once, as always."""

    def __init__(self) -> None:
        self.seen = False
        self.before: Any = None

    def take(self) -> None:
        """Handle Ctrl-C."""
        if threading.current_thread() is threading.main_thread():  # only there may signals be set
            self.before = signal.signal(signal.SIGINT, self._note)

    def give_back(self) -> None:
        """Restore the handler of before."""
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)
            self.before = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        self.give_back()


log = logging.getLogger(__name__)

STATE_KEY: Final = "Snapshot"
"""Where a checkpoint keeps what Lightning does not."""


@dataclass(frozen=True)
class Progress:
    """How far a snapshot got.

    Attributes:
        epoch: Epochs that are over.
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
            log.warning("%s cannot be read; resuming from %s", damaged[0], path.name)
        return found
    if damaged:
        refuse_pointer(damaged[0])
        raise UserError(
            f"{damaged[0]} cannot be read, so that the run cannot be resumed. Restore it, or move it away to start the "
            f"run from its beginning."
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


def random_state() -> dict[str, Any]:
    """Return the state of every global generator, as values that open with ``weights_only=True``."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set the state of every global generator, as :func:`random_state` returned it."""
    torch.set_rng_state(state["torch"])
    torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))


class Snapshot(Callback):
    """Writes ``last.ckpt`` every few minutes, when a signal ends the run, and when training is over.

    It holds all that the next step depends on: weights, optimizer, schedule, callbacks, the place in the epoch, the
    epoch's metrics so far and the random state. The one before is kept as ``before_last.ckpt``.

    Args:
        dirpath: Folder of the checkpoints.
        every_s: Seconds of training that a killed run may lose; 0 writes after every step.

    Raises:
        UserError: If ``every_s`` is negative.
    """

    def __init__(self, dirpath: str, every_s: float = 60.0) -> None:
        in_range("callbacks.snapshot.every_s", every_s, 0)
        self.path, self.every_s = Path(dirpath) / LAST, every_s
        self.kept = self.began = time.monotonic()
        self.ended: dict[str, Any] | None = None
        self.interrupts = Interrupts()
        self.waiting: dict[str, Any] | None = None
        self.module: pl.LightningModule | None = None
        self.written = False

    @property
    def state_key(self) -> str:
        """Where a checkpoint keeps the state of this callback."""
        return STATE_KEY

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle Ctrl-C, so that the current step is finished and saved."""
        self.module, self.kept = pl_module, time.monotonic()
        self.began = self.kept - (self.waiting["seconds"] if self.waiting else 0.0)
        self.interrupts.take()
        if self.waiting is not None:
            own = self.waiting["processes"][trainer.global_rank]
            for name, metrics in _metrics(pl_module).items():
                metrics.restore(own["metrics"][name])

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore the random state just before it is drawn from again."""
        if self.waiting is not None:
            # Else the trainer leaves a schedule on a plateau out at the end of this epoch.
            trainer.fit_loop.restarting = False
            set_random_state(self.waiting["processes"][trainer.global_rank]["random"])
            self.waiting = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a snapshot if it is time, or if a signal has come."""
        if waits_for_step(batch_idx, trainer):  # no snapshot holds the gradients that are added up so far
            return
        # Processes that train together write together, and leave together if one of them got the signal.
        stopping = self._any(trainer, self.interrupts.seen or trainer.received_sigterm)
        due = stopping or self._any(trainer, time.monotonic() - self.kept >= self.every_s)
        # After its last step an epoch is not over: validation, schedule and callbacks are still to come.
        if due and batch_idx + 1 < trainer.num_training_batches:
            self._write(trainer)
        if stopping:
            self._leave(trainer)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Leave validation if a signal has come; it is repeated from the snapshot before."""
        if trainer.world_size == 1 and (self.interrupts.seen or trainer.received_sigterm):
            self._leave(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the last weights, and that training is over."""
        self.interrupts.give_back()
        self.ended = ending(trainer)
        self._write(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the handler of Ctrl-C."""
        self.interrupts.give_back()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of a run that Lightning does not save."""
        if self.module is None:
            return {}
        metrics = {name: metrics.snapshot() for name, metrics in _metrics(self.module).items()}
        each = value_of_each({"random": random_state(), "metrics": metrics})
        return {"processes": each, "ended": self.ended, "seconds": time.monotonic() - self.began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of a snapshot; it is restored when training starts."""
        self.waiting = state_dict or None

    def _write(self, trainer: pl.Trainer) -> None:
        if self.written and not self.path.exists():  # another folder may have come in its place: a mount point
            raise FileNotFoundError(errno.ENOENT, "it was there before, and is gone", str(self.path))
        trainer.save_checkpoint(self.path)
        self.kept, self.written = time.monotonic(), True

    def _any(self, trainer: pl.Trainer, decision: bool) -> bool:
        if trainer.world_size == 1:
            return decision
        return bool(trainer.strategy.reduce_boolean_decision(decision, all=False))

    def _leave(self, trainer: pl.Trainer) -> None:
        raise SIGTERMException if trainer.received_sigterm and not self.interrupts.seen else KeyboardInterrupt


def _metrics(module: pl.LightningModule) -> dict[str, EpochMetrics]:
    return {name: child for name, child in module.named_children() if isinstance(child, EpochMetrics)}
