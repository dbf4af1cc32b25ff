"""Snapshots, from which a stopped training resumes with the same results, bit for bit on a CPU."""

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
from birdclf.training.module import EpochMetrics, waits_for_step
from birdclf.training.processes import value_of_each


class Interrupts:
    """Records in ``seen`` that a first Ctrl-C has come; a second one stops at once, as always."""

    def __init__(self) -> None:
        self.seen = False
        self.before: Any = None

    def take(self) -> None:
        """Handle Ctrl-C."""
        if threading.current_thread() is threading.main_thread():  # signal handlers can only be set there
            self.before = signal.signal(signal.SIGINT, self._note)

    def give_back(self) -> None:
        """Restore the previous handler."""
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)
            self.before = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        self.give_back()


log = logging.getLogger(__name__)

STATE_KEY: Final = "Snapshot"
"""Key of the state of :class:`Snapshot` in a checkpoint."""


@dataclass(frozen=True)
class Progress:
    """Progress of a training at its last snapshot.

    Attributes:
        epoch: Finished epochs.
        ending: Result of :func:`ending`; None if training has not ended.
        processes: Processes that trained.
    """

    path: Path
    epoch: int
    seconds: float
    ending: dict[str, Any] | None
    processes: int


def latest(folder: Path) -> Progress | None:
    """Return the progress of the newest readable snapshot in a folder of checkpoints; None if there is no snapshot.

    Nothing in the files is executed.

    Raises:
        UserError: If there are snapshots and none can be read.
    """
    damaged = []
    for path in (folder / LAST, folder / BEFORE):
        try:
            content = torch.load(path, map_location="meta", weights_only=True)
            state = content["callbacks"][STATE_KEY]
            epoch, seconds = int(content["epoch"]), float(state["seconds"])
            found = Progress(path, epoch, seconds, state["ended"], len(state["processes"]))
            _check_paths(content["callbacks"], state["ended"], folder)
        except FileNotFoundError:
            continue
        except Exception:  # damaged files raise many types
            damaged.append(path)
            continue
        if damaged:
            log.warning("%s cannot be read; resuming from %s", damaged[0], path.name)
        return found
    if damaged:
        refuse_pointer(damaged[0])
        raise UserError(
            f"{damaged[0]} cannot be read, so the run cannot be resumed. Restore it, or move it away to start the run "
            f"from the beginning."
        )
    return None


def _check_paths(callbacks: dict[str, Any], ended: dict[str, Any] | None, folder: Path) -> None:
    """Refuse a snapshot that would make training write or delete files other than checkpoints in its folder."""
    paths = [folder / ended["best"]] if ended else []
    for state in callbacks.values():
        # Lightning uses these paths if the folder has not moved.
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
            "training ended before its first epoch was validated, so there are no best weights. Train longer "
            "(trainer.max_time, callbacks.*)."
        )
    name = Path(best.best_model_path).name
    return {"score": float(best.best_model_score), "best": name, "epochs": trainer.current_epoch}


def random_state() -> dict[str, Any]:
    """Return the state of every global random generator, as values that load with ``weights_only=True``."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set the state of every global generator, as :func:`random_state` returned it."""
    torch.set_rng_state(state["torch"])
    torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))


class Snapshot(Callback):
    """Writes ``last.ckpt`` every few minutes, on a signal, and at the end of training.

    It holds all that the next step depends on: weights, optimizer, schedule, callbacks, the position in the epoch, the
    epoch's metrics so far and the random state. The previous one is kept as ``before_last.ckpt``.

    Args:
        dirpath: Folder of the checkpoints.
        every_s: Seconds between snapshots, the most that a killed run loses; 0 writes after every step.

    Raises:
        UserError: If ``every_s`` is negative.
    """

    def __init__(self, dirpath: str, every_s: float = 60.0) -> None:
        in_range("callbacks.snapshot.every_s", every_s, 0)
        self.path, self.every_s = Path(dirpath) / LAST, every_s
        self.kept = self.began = time.monotonic()
        self.ended: dict[str, Any] | None = None
        self.interrupts = Interrupts()
        self.pending: dict[str, Any] | None = None
        self.module: pl.LightningModule | None = None
        self.written = False

    @property
    def state_key(self) -> str:
        """Key of this callback's state in a checkpoint."""
        return STATE_KEY

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle Ctrl-C, so that the current step is finished and saved."""
        self.module, self.kept = pl_module, time.monotonic()
        self.began = self.kept - (self.pending["seconds"] if self.pending else 0.0)
        self.interrupts.take()
        if self.pending is not None:
            own = self.pending["processes"][trainer.global_rank]
            for name, metrics in _metrics(pl_module).items():
                metrics.restore(own["metrics"][name])

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore the random state just before its next use."""
        if self.pending is not None:
            # Otherwise the trainer skips ReduceLROnPlateau at the end of this epoch.
            trainer.fit_loop.restarting = False
            set_random_state(self.pending["processes"][trainer.global_rank]["random"])
            self.pending = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a snapshot if one is due or a signal was received."""
        if waits_for_step(batch_idx, trainer):  # a snapshot does not hold accumulated gradients
            return
        # All processes of a run write and stop together, also if one alone received the signal.
        stopping = self._any(trainer, self.interrupts.seen or trainer.received_sigterm)
        due = stopping or self._any(trainer, time.monotonic() - self.kept >= self.every_s)
        # The last step does not end an epoch: validation, schedule and callbacks follow.
        if due and batch_idx + 1 < trainer.num_training_batches:
            self._write(trainer)
        if stopping:
            self._stop(trainer)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Stop validation if a signal was received; it is repeated from the last snapshot."""
        if trainer.world_size == 1 and (self.interrupts.seen or trainer.received_sigterm):
            self._stop(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the last weights, and how training ended."""
        self.interrupts.give_back()
        self.ended = ending(trainer)
        self._write(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the previous handler of Ctrl-C."""
        self.interrupts.give_back()

    def state_dict(self) -> dict[str, Any]:
        """Return the state that Lightning does not save."""
        if self.module is None:
            return {}
        metrics = {name: metrics.snapshot() for name, metrics in _metrics(self.module).items()}
        each = value_of_each({"random": random_state(), "metrics": metrics})
        return {"processes": each, "ended": self.ended, "seconds": time.monotonic() - self.began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Store the state of a snapshot, which is restored when training starts."""
        self.pending = state_dict or None

    def _write(self, trainer: pl.Trainer) -> None:
        # The folder may have been replaced: a mount point.
        if self.written and trainer.is_global_zero and not self.path.exists():
            raise FileNotFoundError(errno.ENOENT, "it existed before and is gone", str(self.path))
        trainer.save_checkpoint(self.path)
        self.kept, self.written = time.monotonic(), True

    def _any(self, trainer: pl.Trainer, decision: bool) -> bool:
        if trainer.world_size == 1:
            return decision
        return bool(trainer.strategy.reduce_boolean_decision(decision, all=False))

    def _stop(self, trainer: pl.Trainer) -> None:
        raise SIGTERMException if trainer.received_sigterm and not self.interrupts.seen else KeyboardInterrupt


def _metrics(module: pl.LightningModule) -> dict[str, EpochMetrics]:
    return {name: child for name, child in module.named_children() if isinstance(child, EpochMetrics)}
