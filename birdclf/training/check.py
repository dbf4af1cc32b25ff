"""Checks of settings before any sound is read: types, ranges, combinations, and options that a run depends on."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import torch
from hydra.utils import get_object, instantiate
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from numpy.typing import NDArray
from omegaconf import MISSING, DictConfig, OmegaConf

from birdclf.checks import above, choice, in_range, is_number, most_processes, whole
from birdclf.config import FALLS, TrainConfig, conf_dir, direction
from birdclf.data.samplers import Sampler
from birdclf.data.splits import Split
from birdclf.declared import check_types
from birdclf.errors import UserError
from birdclf.features.embedders.embedder import VectorFeatures
from birdclf.features.representation import Representation
from birdclf.losses.base import Loss
from birdclf.models.head import output_layer
from birdclf.models.probes import Probe
from birdclf.posthoc.base import PostHoc
from birdclf.targets import Task
from birdclf.training.build import build_callbacks, build_classifier, build_of, check_target, trainer_of
from birdclf.training.callbacks.history import History
from birdclf.training.callbacks.snapshot import Snapshot
from birdclf.training.closed_form import ClosedForm
from birdclf.training.combinations import check_combinations, check_head, check_rows
from birdclf.training.original import check_original
from birdclf.training.processes import group_of
from birdclf.training.start import check_frozen

MONITORED: Final[dict[str, tuple[str, ...]]] = {
    "single_label": ("accuracy", "macro_f1", "macro_f1_evaluable", "weighted_f1", "balanced_accuracy", *FALLS),
    "multi_label": ("cmap", "auroc", "t1_accuracy", "micro_f1", "macro_f1", *FALLS),
}
"""Metrics of each task that may be monitored; each is logged as ``val/<name>``."""
ONE_BEST: Final = "best.ckpt is one file, written after every epoch that is the best so far"
EACH_EPOCH: Final = "every epoch ends with one whole validation, which schedule, early stopping and best.ckpt depend on"
SET_HERE: Final = "birdclf sets it itself"
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
        "it would validate on training data; make the source small with data.max_per_species",
    ),
    "val_check_interval": ((None, 1.0), EACH_EPOCH),
    "check_val_every_n_epoch": ((1,), EACH_EPOCH),
    "reload_dataloaders_every_n_epochs": ((0,), "an epoch's order is a function of seed and epoch already"),
    "use_distributed_sampler": ((False,), "each process has its share of every batch already"),
    "sync_batchnorm": ((False,), "several GPUs synchronise batch norms already, and torch has no such layer for a CPU"),
    "enable_checkpointing": ((None, True), "a run must write best.ckpt"),
    "barebones": ((False,), "it leaves out checkpoints, logs and callbacks"),
    "model_registry": ((None,), "it would upload the model"),
    **{name: ((), SET_HERE) for name in ("callbacks", "logger", "plugins", "default_root_dir", "alone")},
}
"""Allowed values and the reason; options that are not given keep birdclf's defaults."""


LOGGER_EXTRAS: Final = {
    "lightning.pytorch.loggers.WandbLogger": "wandb",
    "lightning.pytorch.loggers.MLFlowLogger": "mlflow",
}
"""Package that a logger of Lightning's needs, and the extra of pyproject.toml that brings it."""


def check_trainer_options(given: Mapping[str, Any]) -> None:
    """Refuse options of ``trainer`` that break a run.

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


def check_callbacks(
    callbacks: Mapping[str, Callback], given: Mapping[str, Any], run_dir: str, monitor: str, task: str = "single_label"
) -> None:
    """Refuse options of callbacks, given by their names in ``callbacks``, that break a run.

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
            choice(f"{key}.monitor", callback.monitor, [f"val/{figure}" for figure in MONITORED[task]])
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
    """Refuse another folder for files that belong into the run folder.

    Raises:
        UserError: If it is another folder.
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


@dataclass
class _TwoClasses:
    """The smallest task for which a classifier can be built."""

    features: Representation
    classes: tuple[str, ...] = ("", " ")

    @property
    def class_counts(self) -> torch.Tensor:
        return torch.tensor([2, 1])

    @property
    def examples(self) -> int:
        return 4

    def support(self, stage: str) -> NDArray[np.int64]:
        return np.array([2, 1])


def check_settings(cfg: DictConfig) -> None:
    """Build a training of two classes, so that a wrong setting is refused before any sound is read.

    Raises:
        UserError: If a setting cannot be used.
    """
    _check_groups(cfg)
    check_types(cfg)
    whole("seed", cfg.seed, 0, 2**32 - 1)
    if cfg.store.workers is not None:  # also if the store exists already
        whole("store.workers", cfg.store.workers, 0, most_processes())
    choice("task", cfg.task, get_args(Task))
    _check_task(cfg)
    _check_monitor(cfg.monitor, cfg.task)
    check_trainer_options(cfg.trainer)
    check_loggers(cfg.logger, cfg.run_dir)
    if cfg.redraw_output and cfg.init_from is None:
        raise UserError(
            "redraw_output (experiment=crt has it) redraws the output layer of another run, but no run is given. "
            "Give its folder by init_from=RUN."
        )
    for name, value in cfg.optimizer.items():
        if name in ("lr", "weight_decay"):
            in_range(f"optimizer.{name}", value, 0)
        elif isinstance(value, float) and not is_number(value):
            raise UserError(f"optimizer.{name} is {value}; it must be a finite number.")
    count = group_of(cfg.trainer).count
    if cfg.loader.batch_size % count:
        raise UserError(
            f"loader.batch_size is {cfg.loader.batch_size}; the {count} processes of this run share each batch: it "
            f"must be a multiple of {count}."
        )
    features = instantiate(cfg.features)
    posthoc = build_of(PostHoc, cfg.posthoc, "posthoc")  # type: ignore[type-abstract]
    classifier, transfer = build_classifier(cfg, _TwoClasses(features))
    network = classifier.network
    check_head(classifier.loss, network, num_classes=2)
    sampler = build_of(Sampler, cfg.sampler, "sampler")  # type: ignore[type-abstract]
    check_combinations(classifier.loss, sampler, posthoc, cfg.allow)
    check_rows(posthoc, network, num_classes=2)
    if transfer is not None:
        check_frozen(network, transfer, 2, head=False)
    if cfg.init is not None:
        if cfg.init_from is not None:
            raise UserError(
                "init and init_from both set the first weights. Use one of them: init=none, or no init_from."
            )
        build_of(ClosedForm, cfg.init, "init").check(network)  # type: ignore[type-abstract]
    if cfg.original is not None:
        check_target(cfg.original, "features@original")
        check_original(instantiate(cfg.original), features, output_layer(network, 2).in_features)
    if isinstance(network, Probe) != isinstance(features, VectorFeatures):
        kind = type(network).__name__
        if isinstance(network, Probe):
            raise UserError(
                f"model: {kind} takes one vector per window, but the features are of shape {tuple(features.shape)} "
                f"(channels, bands, frames). Choose an embedder, such as features=birdnet, or another model."
            )
        raise UserError(
            f"model: {kind} takes channels, bands and frames, but the features are one vector of {features.shape[0]} "
            f"values per window. Choose a probe: model=linear_probe, mlp_probe, cosine_probe, prototype_probe or "
            f"attention_probe."
        )
    if isinstance(network, Probe) and network.attention is not None and cfg.window.train != "bag":
        raise UserError(
            f"model.pool=attention learns the weights of a recording's windows, but window.train={cfg.window.train} "
            f"shows one window at a time. Use window.train=bag, or another pool."
        )
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *features.shape))
    except RuntimeError as error:
        raise UserError(
            f"model: {type(network).__name__} cannot take features of shape {tuple(features.shape)} (channels, "
            f"coefficients, frames): {error}. Choose another model or larger features.*."
        ) from error
    try:
        optimizer = classifier.layers.optimizer(classifier.make_optimizer, network, 2)
    except (TypeError, ValueError) as error:
        raise UserError(f"The optimizer refuses its settings (optimizer.*): {error}") from error
    try:
        classifier.make_scheduler(optimizer)
    except (TypeError, ValueError) as error:
        raise UserError(f"The schedule refuses its settings (scheduler.*): {error}") from error
    build_of(Split, cfg.split, "split")  # type: ignore[type-abstract]
    for group in (cfg.window, cfg.audio, cfg.audit):
        instantiate(group)
    instantiate(cfg.criteria, _convert_="all")
    callbacks = build_callbacks(cfg)
    check_callbacks(callbacks, cfg.callbacks, cfg.run_dir, cfg.monitor, cfg.task)
    trainer_of(cfg, callbacks.values(), logger=False)


def _check_groups(cfg: DictConfig) -> None:
    """Refuse unknown keys, and groups without a ``_target_``."""
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    unknown = [str(key) for key in cfg if key not in known]
    if unknown:
        raise UserError(f"There is no setting {unknown[0]!r}. The top level has {', '.join(known)}.")
    for field in dataclasses.fields(TrainConfig):
        if field.type is Any and field.default == MISSING and field.name != "callbacks":
            check_target(cfg[field.name], field.name)
    if cfg.averaging is not None:
        check_target(cfg.averaging, "averaging")
    if cfg.init is not None:
        check_target(cfg.init, "init")
    for group in ("callbacks", "augment", "logger"):
        if not OmegaConf.is_dict(cfg[group]):
            raise UserError(f"{group} is {cfg[group]!r}; it must be a mapping of names to settings. Leave it out.")
    for name, node in cfg.augment.items():
        if node is not None and not OmegaConf.is_dict(node):  # the chain reports one without a _target_
            check_target(node, f"augment.{name}")
    for name, node in cfg.logger.items():
        if node is not None:
            check_target(node, f"logger.{name}")


def _check_task(cfg: DictConfig) -> None:
    """Refuse parts that are made for the other task, before they are built.

    Raises:
        UserError: If there is one.
    """
    for group in ("loss", "posthoc"):
        try:
            kind = get_object(str(cfg[group]._target_))
        except Exception:  # any error: Hydra reports it when the group is built
            continue
        task = getattr(kind, "task", None) if isinstance(kind, type) and issubclass(kind, Loss | PostHoc) else None
        if task in (None, cfg.task):
            continue
        options = (path.stem for path in sorted((conf_dir() / group).glob("*.yaml")))
        fitting = [name for name in options if _task_of_option(group, name) in (None, cfg.task)]
        raise UserError(
            f"{group}: {kind.__name__} is for task={task}, and task is {cfg.task}. Choose {group}={'|'.join(fitting)}, "
            f"or task={task}."
        )
    if cfg.task == "multi_label" and cfg.init is not None:
        raise UserError(
            "init fits one class a recording, and task is multi_label. Use init=none, or task=single_label."
        )


def _task_of_option(group: str, name: str) -> str | None:
    node = OmegaConf.load(conf_dir() / group / f"{name}.yaml")
    if "_target_" not in node:  # it begins with another option
        return _task_of_option(group, str(node.defaults[0]))
    return getattr(get_object(str(node._target_)), "task", None)


def _check_monitor(monitor: str, task: str) -> None:
    allowed = [f"val/{name}" for name in MONITORED[task]]
    if monitor not in allowed:
        other = next((name for name in MONITORED if monitor.removeprefix("val/") in MONITORED[name]), task)
        if other != task:
            raise UserError(f"monitor is {monitor!r}, a metric of task={other}, and task is {task}. Use {allowed[0]}.")
        why = " A weighted or focal loss is no measure across losses; val/nll is." if monitor == "val/loss" else ""
        raise UserError(f"monitor is {monitor!r}; it must be one of {', '.join(allowed)}.{why}")
