"""What a configuration is built into, and the settings that are refused before any sound is read."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import MISSING, DictConfig, OmegaConf
from torch import nn

from birdclf.augment.chain import Chain
from birdclf.checks import in_range, is_number, most_processes, whole
from birdclf.config import TrainConfig, conf_dir, plain
from birdclf.data.module import RecordingDataModule
from birdclf.data.samplers import Sampler
from birdclf.declared import hold_to_types
from birdclf.errors import UserError
from birdclf.features.representation import Representation
from birdclf.losses.base import Loss, as_loss
from birdclf.models.head import CosineLinear, output_layer
from birdclf.posthoc.base import PostHoc
from birdclf.training.lightning_options import MONITORED, check_callbacks, check_loggers, check_trainer_options
from birdclf.training.module import SpeciesClassifier
from birdclf.training.start import Fitted, check_frozen, read_source, report, start_from
from birdclf.training.synced_norm import sync_batch_norms
from birdclf.training.trainer import process_count

T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """What the parts of a training do about the class counts."""

    loss_corrects: bool
    loss_weighs: bool
    sampler_balances: bool
    posthoc_corrects: bool


@dataclass(frozen=True)
class Rule:
    """A combination: its name in ``allow``, when it is there, and what is wrong with it."""

    name: str
    holds: Callable[[Parts], bool]
    reason: str


RULES = (
    Rule(
        "prior_with_sampler",
        lambda parts: parts.loss_corrects and parts.sampler_balances,
        "the loss corrects for the class counts of the train split (Menon et al., 2021), but the sampler draws classes "
        "otherwise than they occur, so that the correction is of a prior that training never meets. Use "
        "sampler=natural or loss=cross_entropy",
    ),
    Rule(
        "weights_with_sampler",
        lambda parts: parts.loss_weighs and parts.sampler_balances,
        "class weights and a sampler that balances classes both make up for the class counts, so that rare classes are "
        "favoured twice. Use sampler=natural or a loss without class weights",
    ),
    Rule(
        "prior_twice",
        lambda parts: parts.loss_corrects and parts.posthoc_corrects,
        "the loss has taken the prior out of the logits already, and the post-hoc adjustment would take it out again "
        "(Menon et al., 2021, give them as alternatives). Use posthoc=none or loss=cross_entropy",
    ),
    Rule(
        "weights_with_posthoc",
        lambda parts: parts.loss_weighs and parts.posthoc_corrects,
        "the post-hoc adjustment expects logits that follow the class counts, which class weights have changed. Use "
        "posthoc=none or a loss without class weights",
    ),
    Rule(
        "sampler_with_posthoc",
        lambda parts: parts.sampler_balances and parts.posthoc_corrects,
        "the post-hoc adjustment expects logits that follow the class counts, which the sampler has changed. Use "
        "posthoc=none or sampler=natural",
    ),
)


def check_combinations(loss: Loss, sampler: Sampler, posthoc: PostHoc, allow: Sequence[str]) -> None:
    """Refuse parts that correct for the class counts twice.

    Args:
        loss: Says by ``corrects_prior`` and ``weighs_classes`` what it does about the class counts.
        sampler: Likewise, by ``balances``.
        posthoc: Likewise, by ``corrects_prior``.
        allow: Names of rules that are not to be held to.

    Raises:
        UserError: If a rule is broken and not allowed, or ``allow`` has a name that is unknown or not needed.
    """
    known = [rule.name for rule in RULES]
    if unknown := [name for name in allow if name not in known]:
        raise UserError(f"allow has {unknown[0]!r}; it may have {', '.join(known)}.")
    parts = Parts(
        loss_corrects=loss.corrects_prior,
        loss_weighs=loss.weighs_classes,
        sampler_balances=sampler.balances,
        posthoc_corrects=posthoc.corrects_prior,
    )
    for rule in RULES:
        if rule.holds(parts) and rule.name not in allow:
            raise UserError(f"These do not go together: {rule.reason}, or study it with allow=[{rule.name}].")
        if rule.name in allow and not rule.holds(parts):
            raise UserError(f"allow has {rule.name}, but nothing here is refused by that name. Leave it out.")


def check_head(loss: Loss, network: nn.Module, num_classes: int) -> None:
    """Refuse a loss of cosines on logits that are none, or that are scaled otherwise.

    Args:
        loss: Says by ``cosine_scale`` what it needs.
        network: Has the last layer.
        num_classes: K.

    Raises:
        UserError: If they do not fit.
    """
    scale, name = loss.cosine_scale, type(loss).__name__
    if scale is None:
        return
    layer = output_layer(network, num_classes)
    if not isinstance(layer, CosineLinear):
        raise UserError(
            f"{name} has margins in cosines, but the network's last layer is {type(layer).__name__}. Use "
            f"model.head=cosine."
        )
    if layer.scale != scale:
        raise UserError(
            f"loss.scale is {scale:g}, but the cosine head's scale is {layer.scale:g}. Set model.scale alone; "
            f"loss.scale follows it."
        )


def check_rows(posthoc: PostHoc, network: nn.Module, num_classes: int) -> None:
    """Refuse what is done by the lengths of an output layer's rows where they are of one length.

    Args:
        posthoc: Says by ``needs_rows`` what it needs.
        network: Has the last layer.
        num_classes: K.

    Raises:
        UserError: If they do not fit.
    """
    if posthoc.needs_rows and isinstance(output_layer(network, num_classes), CosineLinear):
        raise UserError(
            "posthoc=tau_norm makes the rows of the output layer more equal, but those of a cosine head are so. Use "
            "model.head=linear, or posthoc=none."
        )


def build_data(cfg: DictConfig) -> RecordingDataModule:
    """Return the data module of a configuration, not yet prepared."""
    return RecordingDataModule(
        catalog=instantiate(cfg.data),
        features=instantiate(cfg.features),
        split=instantiate(cfg.split),
        window=instantiate(cfg.window),
        audio=instantiate(cfg.audio),
        audit=instantiate(cfg.audit),
        batch_size=cfg.loader.batch_size,
        num_workers=cfg.loader.num_workers,
        store_dir=cfg.store.dir,
        store_workers=cfg.store.workers,
        seed=cfg.seed,
        sampler=build_of(Sampler, cfg.sampler, "sampler"),  # type: ignore[type-abstract]
    )


def build_of(kind: type[T], node: Any, group: str) -> T:
    """Return what a group builds, which has to be of a kind.

    Raises:
        UserError: If it is of another one.
    """
    built = instantiate(node)
    if not isinstance(built, kind):
        raise UserError(
            f"{group}._target_ builds a {type(built).__name__}; it must be a {kind.__module__}.{kind.__name__}. Derive "
            f"your own class from it."
        )
    return built


def build_classifier(
    cfg: DictConfig, data: RecordingDataModule, begins: bool = True, folder: Path | None = None
) -> SpeciesClassifier:
    """Return the classifier of a configuration for prepared data.

    Args:
        cfg: Composed ``conf/train.yaml``.
        data: Prepared data.
        begins: Whether training begins here, with the weights of ``init_from``; a snapshot has its own.
        folder: Where it is written what became of these; None where another process does.

    Raises:
        UserError: If the weights of ``init_from`` do not fit, or leave random what is frozen.
    """
    network = instantiate(cfg.model, num_classes=len(data.classes), in_channels=data.features.shape[0])
    fitted: Fitted | None = None
    if begins and cfg.init_from is not None:
        source = read_source(cfg.init_from)
        fitted = start_from(network, source, data.classes, cfg.redraw_output)
        if folder is not None:
            report(fitted, source, data.features.settings, data.table, folder)
    if process_count(cfg.trainer.devices) > 1:
        gpu = torch.cuda.is_available() and cfg.trainer.accelerator in ("auto", "gpu", "cuda")
        network = sync_batch_norms(network, torch.device("cuda" if gpu else "cpu"))
    loss = instantiate(cfg.loss, class_counts=data.class_counts)
    classifier = SpeciesClassifier(
        network=network,
        loss=loss,
        features=data.features,
        classes=data.classes,
        optimizer=instantiate(cfg.optimizer),
        scheduler=instantiate(cfg.scheduler),
        monitor=cfg.monitor,
        channels_last=cfg.channels_last,
        config=plain(cfg),
        train_counts=data.support("train"),
        evaluation=instantiate(cfg.evaluation),
        augment=build_augment(cfg, data.features, data.class_counts),
        layers=instantiate(cfg.layers),
    )
    if fitted is not None:
        check_frozen(classifier.network, fitted, len(data.classes))
    return classifier


def build_augment(cfg: DictConfig, features: Representation, class_counts: torch.Tensor) -> Chain | None:
    """Return the augmentations of a configuration, None where there are none.

    Raises:
        UserError: If one is out of range, or two contradict each other.
    """
    chosen = {str(name): node for name, node in cfg.augment.items() if node is not None}
    if not chosen:
        return None
    augmentations = {name: instantiate(node, _convert_="all") for name, node in chosen.items()}
    batch_size = cfg.loader.batch_size // process_count(cfg.trainer.devices)
    return Chain(augmentations, features, class_counts, cfg.seed, batch_size)


def build_callbacks(cfg: DictConfig) -> list[pl.Callback]:
    """Return the callbacks of a configuration, of which exactly one keeps the best weights.

    Raises:
        UserError: If there is none such, or more than one, or it would write the snapshot's file.
    """
    given = {str(name): node for name, node in cfg.callbacks.items() if node is not None}
    named: dict[str, pl.Callback] = {}
    for name, node in given.items():
        check_target(node, f"callbacks.{name}")
        named[name] = instantiate(node)
        if not isinstance(named[name], pl.Callback):
            raise UserError(f"callbacks.{name}._target_ is {node._target_}, which is no callback of Lightning's.")
    check_callbacks(named, given, cfg.run_dir, cfg.monitor)
    callbacks = list(named.values())
    if cfg.averaging is not None:  # first, so that the others see averaged weights
        callbacks.insert(0, instantiate(cfg.averaging))
        if any(isinstance(callback, ModelCheckpoint) and callback.save_weights_only for callback in callbacks):
            raise UserError(
                "callbacks.checkpoint.save_weights_only leaves averaged weights out of best.ckpt. Leave it out, or set "
                "averaging=null."
            )
    return callbacks


def check_target(node: Any, key: str) -> None:
    """Refuse a value in the place of something that is to be built.

    Raises:
        UserError: If it names no ``_target_``.
    """
    if OmegaConf.is_dict(node) and isinstance(node.get("_target_"), str):
        return
    options = sorted(path.stem for path in (conf_dir() / key).glob("*.yaml"))
    way = f"Choose one: {key}={'|'.join(options)}" if options else "A _target_ says what it is; null leaves it out"
    raise UserError(f"{key} is {OmegaConf.to_container(node) if OmegaConf.is_config(node) else node!r}. {way}.")


def check_settings(cfg: DictConfig) -> None:
    """Build what can be built for two classes, so that a wrong setting is refused before any sound is read.

    Raises:
        UserError: If a setting cannot be used.
    """
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    unknown = [str(key) for key in cfg if key not in known]
    if unknown:
        raise UserError(f"There is no setting {unknown[0]!r}. The top level has {', '.join(known)}.")
    for field in dataclasses.fields(TrainConfig):
        if field.type is Any and field.default == MISSING and field.name != "callbacks":
            check_target(cfg[field.name], field.name)
    if cfg.averaging is not None:
        check_target(cfg.averaging, "averaging")
    for group in ("callbacks", "augment", "logger"):
        if not OmegaConf.is_dict(cfg[group]):
            raise UserError(f"{group} is {cfg[group]!r}; it must be names with what they are. Leave it out.")
    for name, node in cfg.augment.items():
        if node is not None and not OmegaConf.is_dict(node):  # one without a _target_ is told of by the chain
            check_target(node, f"augment.{name}")
    for name, node in cfg.logger.items():
        if node is not None:
            check_target(node, f"logger.{name}")
    hold_to_types(cfg)
    whole("seed", cfg.seed, 0, 2**32 - 1)
    if cfg.store.workers is not None:  # also where the store is there already
        whole("store.workers", cfg.store.workers, 0, most_processes())
    _check_monitor(cfg.monitor)
    check_trainer_options(cfg.trainer)
    check_loggers(cfg.logger, cfg.run_dir)
    features = instantiate(cfg.features)
    shape = features.shape
    network = instantiate(cfg.model, num_classes=2, in_channels=shape[0])
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *shape))
    except RuntimeError as error:
        raise UserError(
            f"model: {type(network).__name__} cannot take features of shape {tuple(shape)} (channels, "
            f"coefficients, frames): {error}. Choose another model or larger features.*."
        ) from error
    loss = as_loss(instantiate(cfg.loss, class_counts=torch.tensor([2, 1])))
    check_head(loss, network, num_classes=2)
    posthoc = build_of(PostHoc, cfg.posthoc, "posthoc")  # type: ignore[type-abstract]
    check_combinations(loss, build_of(Sampler, cfg.sampler, "sampler"), posthoc, cfg.allow)  # type: ignore[type-abstract]
    check_rows(posthoc, network, num_classes=2)
    fitted = _check_start(cfg, network)
    layers = instantiate(cfg.layers)
    layers.apply_freeze(network, 2)
    if fitted is not None:
        check_frozen(network, fitted, 2, head=False)
    for name, value in cfg.optimizer.items():
        if name in ("lr", "weight_decay"):
            in_range(f"optimizer.{name}", value, 0)
        elif isinstance(value, float) and not is_number(value):
            raise UserError(f"optimizer.{name} is {value}; it must be a finite number.")
    try:
        optimizer = layers.optimizer(instantiate(cfg.optimizer), network, 2)
    except (TypeError, ValueError) as error:
        raise UserError(f"The optimizer refuses its settings (optimizer.*): {error}") from error
    try:
        instantiate(cfg.scheduler)(optimizer)
    except (TypeError, ValueError) as error:
        raise UserError(f"The schedule refuses its settings (scheduler.*): {error}") from error
    for group in (cfg.split, cfg.window, cfg.audio, cfg.audit, cfg.evaluation, cfg.averaging):
        instantiate(group)
    instantiate(cfg.criteria, _convert_="all")
    count = process_count(cfg.trainer.devices)
    if cfg.loader.batch_size % count:
        raise UserError(
            f"loader.batch_size is {cfg.loader.batch_size}; the {count} processes of trainer.devices share each batch: "
            f"it must be a multiple of {count}."
        )
    build_augment(cfg, features, torch.tensor([2, 1]))
    instantiate(
        cfg.trainer, callbacks=build_callbacks(cfg), logger=False, default_root_dir=Path(cfg.run_dir), _convert_="all"
    )


def _check_start(cfg: DictConfig, network: nn.Module) -> Fitted | None:
    if cfg.init_from is not None:
        return start_from(network, read_source(cfg.init_from), ("", " "), cfg.redraw_output)
    if cfg.redraw_output:
        raise UserError(
            "redraw_output (experiment=crt has it) draws the output layer of another run anew, but no run is given. "
            "Give its folder by init_from=RUN."
        )
    return None


def _check_monitor(monitor: str) -> None:
    allowed = [f"val/{name}" for name in MONITORED]
    if monitor not in allowed:
        why = " A weighted or focal loss is no measure across losses; val/nll is." if monitor == "val/loss" else ""
        raise UserError(f"monitor is {monitor!r}; it must be one of {', '.join(allowed)}.{why}")
