"""Builders of a training's parts from a configuration."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import lightning.pytorch as pl
import numpy as np
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from birdclf.augment.chain import Chain
from birdclf.config import conf_dir, resolved_config
from birdclf.data.module import RecordingDataModule
from birdclf.data.samplers import Sampler
from birdclf.data.splits import Split
from birdclf.errors import UserError
from birdclf.features.representation import Representation
from birdclf.losses.base import as_loss
from birdclf.models.head import output_layer
from birdclf.training.module import SpeciesClassifier
from birdclf.training.processes import group_of
from birdclf.training.start import Transfer, read_source, transfer_weights

T = TypeVar("T")


def build_data(cfg: DictConfig) -> RecordingDataModule:
    """Return the data module of a configuration, not yet prepared."""
    return RecordingDataModule(
        catalog=instantiate(cfg.data),
        features=instantiate(cfg.features),
        split=build_of(Split, cfg.split, "split"),  # type: ignore[type-abstract]
        window=instantiate(cfg.window),
        audio=instantiate(cfg.audio),
        audit=instantiate(cfg.audit),
        batch_size=cfg.loader.batch_size,
        num_workers=cfg.loader.num_workers,
        store_dir=cfg.store.dir,
        store_workers=cfg.store.workers,
        seed=cfg.seed,
        sampler=build_of(Sampler, cfg.sampler, "sampler"),  # type: ignore[type-abstract]
        task=cfg.task,
    )


def build_of(kind: type[T], node: Any, group: str) -> T:
    """Build a group and check its class.

    Raises:
        UserError: If it is of another class.
    """
    built = instantiate(node)
    if not isinstance(built, kind):
        raise UserError(
            f"{group}._target_ builds a {type(built).__name__}; it must be a {kind.__module__}.{kind.__name__}. Derive "
            f"your own class from it."
        )
    return built


class Task(Protocol):
    """Features and classes that a classifier is built for, such as a prepared data module."""

    features: Representation
    classes: tuple[str, ...]

    @property
    def class_counts(self) -> Tensor:
        """``(K,)`` train examples of each class, as the loss gets them."""
        ...

    @property
    def examples(self) -> int:
        """Train examples of all classes and of none."""
        ...

    def support(self, stage: str) -> NDArray[np.int64]:
        """Return ``(K,)`` recordings of each class in a split."""
        ...


def build_classifier(cfg: DictConfig, task: Task, begins: bool = True) -> tuple[SpeciesClassifier, Transfer | None]:
    """Return the classifier of a configuration, and the weights that its network took from ``init_from``.

    Args:
        cfg: Composed ``conf/train.yaml``.
        task: Features, classes and their counts.
        begins: Whether training starts with the weights of ``init_from``; a resumed one has its snapshot's.

    Raises:
        UserError: If the weights of ``init_from`` do not fit.
    """
    features, classes, class_counts = task.features, task.classes, task.class_counts
    network = instantiate(cfg.model, num_classes=len(classes), in_channels=features.shape[0])
    transfer = None
    if begins and cfg.init_from is not None:
        transfer = transfer_weights(network, read_source(cfg.init_from), classes, cfg.redraw_output)
    examples = {"examples": task.examples} if cfg.task == "multi_label" else {}
    loss = as_loss(instantiate(cfg.loss, class_counts=class_counts, **examples))
    if cfg.task == "multi_label" and begins and transfer is None and not loss.corrects_prior:
        begin_at_prior(network, class_counts, task.examples)
    classifier = SpeciesClassifier(
        network=network,
        loss=loss,
        features=features,
        classes=classes,
        optimizer=instantiate(cfg.optimizer),
        scheduler=instantiate(cfg.scheduler),
        monitor=cfg.monitor,
        channels_last=cfg.channels_last,
        config=resolved_config(cfg),
        train_counts=task.support("train"),
        evaluation=instantiate(cfg.evaluation),
        augment=build_augment(cfg, features, class_counts),
        layers=instantiate(cfg.layers),
        task=cfg.task,
    )
    return classifier, transfer


@torch.no_grad()
def begin_at_prior(network: nn.Module, class_counts: Tensor, examples: int) -> None:
    """Set the bias of a linear output layer to the log odds of each class, so that training begins at the prior.

    With biases of 0 each class begins at a probability of one half, and the many negatives of rare classes dominate the
    first epochs (Lin et al., 2017, section 3.3).

    Args:
        network: Features to ``(B, K)`` logits.
        class_counts: ``(K,)`` train examples that have each class.
        examples: Train examples of all classes and of none.
    """
    layer = output_layer(network, len(class_counts))
    if isinstance(layer, nn.Linear) and layer.bias is not None:
        layer.bias.copy_(torch.log((class_counts + 0.5) / (examples - class_counts + 0.5)))


def build_augment(cfg: DictConfig, features: Representation, class_counts: torch.Tensor) -> Chain | None:
    """Return the augmentations of a configuration, None if there are none.

    Raises:
        UserError: If one is out of range, or two contradict each other.
    """
    chosen = {str(name): node for name, node in cfg.augment.items() if node is not None}
    if not chosen:
        return None
    augmentations = {name: instantiate(node, _convert_="all") for name, node in chosen.items()}
    batch_size = cfg.loader.batch_size // group_of(cfg.trainer).count
    return Chain(augmentations, features, class_counts, cfg.seed, batch_size, cfg.task)


def build_callbacks(cfg: DictConfig) -> dict[str, pl.Callback]:
    """Return the callbacks of a configuration by their names; ``averaging`` first: the others see averaged weights.

    Raises:
        UserError: If one is no callback, or averaged weights would not be kept.
    """
    given = {str(name): node for name, node in cfg.callbacks.items() if node is not None}
    callbacks: dict[str, pl.Callback] = {}
    if cfg.averaging is not None:
        callbacks["averaging"] = instantiate(cfg.averaging)
    for name, node in given.items():
        check_target(node, f"callbacks.{name}")
        callbacks[name] = instantiate(node)
        if not isinstance(callbacks[name], pl.Callback):
            raise UserError(f"callbacks.{name}._target_ is {node._target_}, which is no callback of Lightning's.")
        checkpoint = callbacks[name]
        if isinstance(checkpoint, ModelCheckpoint) and checkpoint.save_weights_only and cfg.averaging is not None:
            raise UserError(
                f"callbacks.{name}.save_weights_only leaves averaged weights out of best.ckpt. Leave it out, or set "
                f"averaging=null."
            )
    return callbacks


def trainer_of(
    cfg: DictConfig, callbacks: Iterable[pl.Callback], logger: Sequence[Logger] | bool, **more: Any
) -> pl.Trainer:
    """Return the trainer of a configuration.

    Args:
        cfg: Composed ``conf/train.yaml``.
        callbacks: Lightning callbacks.
        logger: Lightning loggers; False for none.
        more: Arguments that replace ``trainer.*``.
    """
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        callbacks=list(callbacks),
        logger=logger,
        default_root_dir=Path(cfg.run_dir),
        _convert_="all",
        **more,
    )
    return trainer


def check_target(node: Any, key: str) -> None:
    """Refuse a value that is not a node with a ``_target_``.

    Raises:
        UserError: If it names no ``_target_``.
    """
    if OmegaConf.is_dict(node) and isinstance(node.get("_target_"), str):
        return
    options = sorted(path.stem for path in (conf_dir() / key).glob("*.yaml"))
    way = f"Choose one: {key}={'|'.join(options)}" if options else "A _target_ says what it is; null leaves it out"
    raise UserError(f"{key} is {OmegaConf.to_container(node) if OmegaConf.is_config(node) else node!r}. {way}.")
