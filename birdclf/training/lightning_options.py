"""Options of Lightning's that a run relies on: other values are refused before training, in a sentence."""

from collections.abc import Mapping
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, Final

from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from omegaconf import DictConfig

from birdclf.checks import above, choice, in_range, whole
from birdclf.config import FALLS, direction
from birdclf.errors import UserError
from birdclf.training.callbacks.history import History
from birdclf.training.callbacks.snapshot import Snapshot

MONITORED: Final = ("accuracy", "macro_f1", "macro_f1_evaluable", "weighted_f1", "balanced_accuracy", *FALLS)
"""Figures of an epoch that tell runs apart; each is logged as ``val/<name>``."""
ONE_BEST: Final = "best.ckpt is one file, written after every epoch that is the best so far"
EACH_EPOCH: Final = "every epoch ends with one whole validation, which schedule, early stopping and best.ckpt go by"
OURS: Final = "birdclf sets it itself"
OF_CHECKPOINT: Final[dict[str, tuple[tuple[Any, ...], str]]] = {
    "filename": (("best",), "every other command looks for best.ckpt"),
    "save_top_k": ((1,), ONE_BEST),
    "save_last": ((None, False), "last.ckpt is callbacks.snapshot's"),
    "save_on_exception": ((False,), "callbacks.snapshot writes last.ckpt, from which a run resumes"),
    "every_n_train_steps": ((None, 0), ONE_BEST),
    "every_n_epochs": ((None, 1), ONE_BEST),
    "train_time_interval": ((None,), ONE_BEST),
    "save_on_train_epoch_end": ((None, False), ONE_BEST),
    "enable_version_counter": ((False,), "every other command looks for best.ckpt"),
}
OF_TRAINER: Final[dict[str, tuple[tuple[Any, ...], str]]] = {
    "fast_dev_run": (
        (False, 0),
        "it keeps no checkpoint; a short trial is trainer.max_epochs=1 data.max_per_species=10",
    ),
    "max_steps": ((-1,), "training ends after whole epochs: trainer.max_epochs"),
    "limit_val_batches": ((None, 1.0), EACH_EPOCH),
    "limit_test_batches": ((None, 1.0), "the test split is evaluated whole"),
    "limit_predict_batches": ((None, 1.0), "both splits are evaluated whole"),
    "overfit_batches": (
        (0, 0.0),
        "it would validate on what is trained on; make the source small by data.max_per_species",
    ),
    "val_check_interval": ((None, 1.0), EACH_EPOCH),
    "check_val_every_n_epoch": ((1,), EACH_EPOCH),
    "reload_dataloaders_every_n_epochs": ((0,), "an epoch's order is a function of seed and epoch already"),
    "use_distributed_sampler": ((False,), "each process has its share of every batch already"),
    "sync_batchnorm": ((False,), "batch norms are synchronised already"),
    "enable_checkpointing": ((None, True), "best.ckpt is what a run is for"),
    "barebones": ((False,), "it leaves out checkpoints, logs and callbacks"),
    "model_registry": ((None,), "it would upload the model"),
    "num_nodes": ((1,), "one run trains on one machine; a sweep uses many"),
    **{name: ((), OURS) for name in ("callbacks", "logger", "plugins", "default_root_dir", "alone")},
}
"""Allowed values, and why; an option that is not given is as birdclf has it."""
LOGGER_EXTRAS: Final = {
    "lightning.pytorch.loggers.WandbLogger": "wandb",
    "lightning.pytorch.loggers.MLFlowLogger": "mlflow",
}
"""Package that a logger of Lightning's needs, and the extra of pyproject.toml that brings it."""


def check_trainer_options(given: Mapping[str, Any]) -> None:
    """Refuse options of ``trainer`` that a run cannot work with.

    Raises:
        UserError: If there is one.
    """
    for name, (allowed, why) in OF_TRAINER.items():
        if name in given:
            _check(f"trainer.{name}", given[name], allowed, why)
    for name, least in (("log_every_n_steps", 0), ("num_sanity_val_steps", -1), ("min_epochs", 0), ("min_steps", 0)):
        if given.get(name) is not None:
            whole(f"trainer.{name}", given[name], least)
    if given.get("gradient_clip_val") is not None:
        in_range("trainer.gradient_clip_val", given["gradient_clip_val"], 0)
    if given.get("limit_train_batches") is not None:
        above("trainer.limit_train_batches", given["limit_train_batches"], 0)


def check_callbacks(callbacks: Mapping[str, Callback], given: Mapping[str, Any], run_dir: str, monitor: str) -> None:
    """Refuse options of callbacks that a run cannot work with.

    Args:
        callbacks: By their names in ``callbacks``.
        given: Their settings, by the same names.
        run_dir: The run folder.
        monitor: Metric that decides the best weights.

    Raises:
        UserError: If there is one, or no single callback keeps the best weights.
    """
    best = [name for name, callback in callbacks.items() if isinstance(callback, ModelCheckpoint)]
    if len(best) != 1:
        raise UserError(
            f"callbacks has {len(best)} ModelCheckpoint callbacks; exactly 1 is needed, callbacks.checkpoint, to "
            f"decide the best weights."
        )
    relied_on: dict[str, tuple[tuple[Any, ...], str]] = OF_CHECKPOINT | {
        "monitor": ((monitor,), "it follows monitor; set that"),
        "mode": ((direction(monitor),), f"the better direction of {monitor}"),
    }
    options = {name: parameter.default for name, parameter in signature(ModelCheckpoint).parameters.items()}
    options |= given[best[0]]
    for name, (allowed, why) in relied_on.items():
        _check(f"callbacks.{best[0]}.{name}", options[name], allowed, why)
    for name, callback in callbacks.items():
        key = f"callbacks.{name}"
        if isinstance(callback, EarlyStopping):
            choice(f"{key}.monitor", callback.monitor, [f"val/{figure}" for figure in MONITORED])
            towards = (direction(callback.monitor),)
            _check(f"{key}.mode", callback.mode, towards, f"the better direction of {callback.monitor}")
            whole(f"{key}.patience", callback.patience, 0)
        if isinstance(callback, ModelCheckpoint | Snapshot | History):
            place = Path(callback.dirpath or "") if isinstance(callback, ModelCheckpoint) else callback.path.parent
            home = Path(run_dir) if isinstance(callback, History) else Path(run_dir) / "checkpoints"
            check_place(f"{key}.dirpath", place, home)


def check_loggers(loggers: DictConfig, run_dir: str) -> None:
    """Refuse loggers that are not installed, or that write to another folder than the run's.

    Raises:
        UserError: If there is one.
    """
    for name, node in ((str(name), node) for name, node in loggers.items() if node is not None):
        extra = LOGGER_EXTRAS.get(node._target_)
        if extra is not None and find_spec(extra) is None:
            raise UserError(f"logger={name} needs an extra: pip install 'birdclf[{extra}]'")
        if "save_dir" in node:
            check_place(f"logger.{name}.save_dir", Path(node.save_dir or ""), Path(run_dir))


def check_place(key: str, place: Path, home: Path) -> None:
    """Refuse another place for what belongs into the run folder.

    Raises:
        UserError: If it is another one.
    """
    if place.absolute() != home.absolute():
        raise UserError(
            f"{key} is {str(place)!r}; every other command looks in {home}. Choose the run folder by hydra.run.dir."
        )


def _check(key: str, value: Any, allowed: tuple[Any, ...], why: str) -> None:
    if not any(value == one and type(value) is type(one) for one in allowed):  # 1.0 is all batches, 1 is one
        must = f"it must be {' or '.join(_word(one) for one in allowed)}" if allowed else "leave it out"
        raise UserError(f"{key} is {value!r}; {must}: {why}.")


def _word(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
