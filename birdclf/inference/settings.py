"""The settings that an evaluation goes by: the run's own, on its own source or on another."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from birdclf.config import conf_dir
from birdclf.errors import UserError
from birdclf.features.representation import Representation
from birdclf.inference.checkpoint import LoadedRun
from birdclf.inference.trust import build, check_names

Kind = TypeVar("Kind")


def read_settings(run: Path, source: Sequence[str] = (), trusted: Collection[str] = ()) -> DictConfig:
    """Return the settings of a run folder's ``config.yaml``, with another source where one is given.

    Like a checkpoint the file may come from anybody: :mod:`birdclf.inference.trust` says which code it may name.

    Args:
        run: The run folder.
        source: Words such as ``data.root=DIR``, or ``data=folder data.root=DIR`` for a source of another kind.
        trusted: Top-level packages that the user trusts.

    Raises:
        UserError: If there is no such file, it cannot be read or names code that is not trusted, or a word is no
            setting of the source.
    """
    file = run / "config.yaml"
    if not file.is_file():
        raise UserError(f"{file} does not exist; {run} is no run folder. Give a folder that birdclf train has written.")
    try:
        cfg = OmegaConf.load(file)
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {str(error).splitlines()[0]}. Restore it.") from error
    if not isinstance(cfg, DictConfig):
        raise UserError(f"{file} holds no settings. Restore it.")
    check_names(OmegaConf.to_container(cfg), str(file), trusted)
    for word in source:
        key, equals, _ = word.partition("=")
        if not equals or not (key == "data" or key.startswith("data.")):
            raise UserError(f"--source {word}: it takes data=KIND and data.KEY=VALUE, such as data.root=DIR.")
    kinds = [word for word in source if word.startswith("data=")]
    if kinds:
        cfg.data = _option(kinds[-1])
    words = [word for word in source if word not in kinds]
    given = OmegaConf.from_dotlist(words)
    for word in words:
        key, _, typed = word.partition("=")
        if OmegaConf.is_missing(cfg.data, key[5:]) or isinstance(OmegaConf.select(cfg, key), str):
            OmegaConf.update(given, key, typed)  # a text, whatever else it could be read as
    return DictConfig(OmegaConf.merge(cfg, given))


def built(
    cfg: DictConfig, group: str, kind: type[Kind], run: Path, trusted: Collection[str] = (), **known: Any
) -> Kind:
    """Build a group of a run's settings, which has to be of one kind.

    Raises:
        UserError: If it is of another kind, is not trusted, or refuses its settings.
    """
    node = OmegaConf.to_container(cfg[group], resolve=True, throw_on_missing=True) if group in cfg else None
    return build(node, kind, group, trusted, str(run / "config.yaml"), **known)


def check_preprocessing(cfg: DictConfig, loaded: LoadedRun, run: Path, trusted: Collection[str] = ()) -> None:
    """Refuse settings under which the store would hold other features than the network was trained on.

    Raises:
        UserError: If features or audio differ between ``config.yaml`` and checkpoint.
    """
    trained = {f"features.{name}": value for name, value in loaded.predictor.features.settings.items()}
    trained |= {f"audio.{name}": value for name, value in (loaded.config.get("audio") or {}).items()}
    features = built(cfg, "features", Representation, run, trusted)
    given = {f"features.{name}": value for name, value in features.settings.items()}
    given |= {f"audio.{name}": value for name, value in cfg.audio.items()}
    for name in sorted(trained.keys() | given.keys()):
        if trained.get(name) != given.get(name):
            raise UserError(
                f"{name} is {given.get(name)!r} in {run / 'config.yaml'} and {trained.get(name)!r} in the checkpoint: "
                f"the network was trained on other features than these. Set it back to {trained.get(name)!r}."
            )


def _option(word: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = compose("train", overrides=[word]).data
    assert isinstance(node, DictConfig)
    return node
