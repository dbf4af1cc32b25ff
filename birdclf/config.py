"""The typed top level of the configuration, and the resolvers that YAML files may use."""

import json
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from birdclf.files import digest

FALLS = ("nll", "false_detections_per_hour")  # metrics of which lower values are better
# Keys that change no result; of the callbacks only some do.
NOT_HASHED = (
    *("run_dir", "store", "logger", "callbacks", "criteria", "resume", "fail_fast", "allow", "lr_find", "pictures"),
    "original",
)
NOT_HASHED_CALLBACKS = ("snapshot", "history", "progress", "pruning")
UNSET: dict[str, dict[str, tuple[Any, ...]]] = {
    "split": {"train_fraction": (1,), "train_per_species": (None,)},
    "evaluation": {"threshold": (0.5,), "precision": (0.9,), "recall": (0.5,)},
    "data": {"secondary": ("positive",), "background": (None,), "background_share": (None,)},
}
"""Settings that runs of older versions lack, with the values by which they change nothing."""
JOB_NAMING = "hydra.job.config.override_dirname.exclude_keys"  # a setting that the command line adds itself


@dataclass
class Store:
    """The feature store: its folder, and the number of processes that build it."""

    dir: str = "outputs/store"
    workers: int | None = None


@dataclass
class SharedStore(Store):
    """A store built by several workers, of which this is one."""

    shards: int = 1
    shard: int | None = None


@dataclass
class Loader:
    """Settings of the data loader."""

    batch_size: int = 32
    num_workers: int = 0


@dataclass
class PrepareConfig:
    """Top level of ``conf/prepare.yaml``."""

    data: Any = MISSING
    audio: Any = MISSING
    audit: Any = MISSING
    features: Any = MISSING
    store: SharedStore = field(default_factory=SharedStore)
    run_dir: str = MISSING


@dataclass
class TrainConfig:
    """Top level of ``conf/train.yaml``: groups are built by ``instantiate``, the rest is checked here."""

    name: str = MISSING
    seed: int = 1
    task: str = "single_label"
    monitor: str = MISSING
    channels_last: bool = True
    pictures: bool = True
    data: Any = MISSING
    audio: Any = MISSING
    audit: Any = MISSING
    features: Any = MISSING
    original: Any = None
    split: Any = MISSING
    window: Any = MISSING
    sampler: Any = MISSING
    model: Any = MISSING
    init: Any = None
    init_from: str | None = None
    members: Any = None
    redraw_output: bool = False
    loss: Any = MISSING
    layers: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    augment: Any = field(default_factory=dict)  # a chain of none is `augment=[]` as well
    averaging: Any = None
    evaluation: Any = MISSING
    posthoc: Any = MISSING
    criteria: Any = MISSING
    trainer: Any = MISSING
    callbacks: Any = MISSING
    logger: Any = field(default_factory=dict)
    loader: Loader = field(default_factory=Loader)
    store: Store = field(default_factory=Store)
    allow: list[str] = field(default_factory=list)
    resume: bool | None = None
    fail_fast: bool = False
    lr_find: bool = False
    reference: Any = None
    run_dir: str = MISSING


def direction(metric: str) -> str:
    """Return ``min`` or ``max``, the better direction of a metric such as ``val/macro_f1``."""
    return "min" if metric.split("/")[-1] in FALLS else "max"


def folder_name(text: str) -> str:
    """Return a text as part of a folder's name, without ``=``, separators or quotes, at most 120 characters."""
    return re.sub(r"[^A-Za-z0-9_.,+-]+", "-", text).strip("-.,")[:120]


def shard_suffix(number: int | None) -> str:
    """Return the suffix of a worker's run folder: workers on several machines may start in the same second."""
    return "" if number is None else f"_shard-{number}"


def conf_dir() -> Path:
    """Return the folder of the YAML files: inside an installed wheel, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def register() -> None:
    """Make schema, resolvers and sweeper known to Hydra and OmegaConf; may be called more than once.

    Hydra builds sweepers of the namespace package ``hydra_plugins`` only. This package holds its own part of it, which
    is therefore found in a checkout too.
    """
    plugins = str(Path(__file__).parent / "sweep" / "plugins")
    if plugins not in sys.path:
        sys.path.append(plugins)
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="prepare_schema", node=PrepareConfig)
    OmegaConf.register_new_resolver("direction", direction, replace=True)
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
    OmegaConf.register_new_resolver("shard_suffix", shard_suffix, replace=True)
    # A launcher's file here and its plugin's schema share a name on purpose: the schema checks the defaults in the
    # file, and without the plugin the file still composes, which allows an error that names the missing extra.
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema", UserWarning)


def resolved_config(cfg: DictConfig) -> dict[str, Any]:
    """Return a resolved config as plain dicts, lists and values."""
    container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def hashed_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide a run's results: all but its folders, loggers and criteria."""
    kept = {str(key): value for key, value in config.items() if key not in NOT_HASHED}
    kept["callbacks"] = {
        name: {k: v for k, v in (callback or {}).items() if k not in ("dirpath", "run_dir")}
        for name, callback in (config.get("callbacks") or {}).items()
        if name not in NOT_HASHED_CALLBACKS
    }
    if kept.get("task") == "single_label":
        del kept["task"]
    for group, unset in UNSET.items():
        if isinstance(node := config.get(group), Mapping):
            own = {"seed": (None, config.get("seed"))} if group == "split" else {}
            kept[group] = {key: value for key, value in node.items() if value not in (own | unset).get(key, ())}
    for group, key in (("loader", "num_workers"), ("trainer", "timeout_s")):
        kept[group] = {k: v for k, v in (config.get(group) or {}).items() if k != key}
    return kept


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide a run's results by their dotted names."""
    return _flat(hashed_settings(config), "")


def _flat(node: Any, prefix: str) -> dict[str, Any]:
    if not isinstance(node, Mapping) or not node:
        return {prefix.rstrip("."): node}
    return {name: value for key, below in node.items() for name, value in _flat(below, f"{prefix}{key}.").items()}


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the hash of the settings that decide a run's results."""
    return digest(json.dumps(hashed_settings(config), sort_keys=True, default=str).encode())


register()
