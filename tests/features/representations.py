"""Every option of ``conf/features``, found there, and sound to try it on."""

from functools import cache

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class, instantiate
from made_embedder import with_file
from omegaconf import OmegaConf

from birdclf.config import conf_dir
from birdclf.features.embedders.vectors import PrecomputedVectors
from birdclf.features.mel import MelFeatures
from birdclf.features.representation import Representation

RATE = 32_000
WINDOW = 5 * RATE
FILES = sorted(path.stem for path in (conf_dir() / "features").glob("*.yaml"))


@cache
def settings_of(name: str) -> dict:
    """Return what ``features=NAME`` adds to a configuration."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = OmegaConf.to_container(compose("train", overrides=[f"features={name}"]).features)
    assert isinstance(node, dict)
    return node


NAMES = [name for name in FILES if not issubclass(get_class(settings_of(name)["_target_"]), PrecomputedVectors)]
"""Those that are computed from sound."""
MEL = [name for name in NAMES if issubclass(get_class(settings_of(name)["_target_"]), MelFeatures)]
"""Those over time and frequency."""


def make(name: str, **changed: object) -> Representation:
    """Return features as their file has them, but for some settings."""
    node = with_file(settings_of(name) | changed)
    made: Representation = instantiate(node)
    return made


@cache
def shared(name: str) -> Representation:
    """Return one that no test changes."""
    return make(name)


@cache
def brief(name: str, padding: str) -> Representation:
    """Return one of a short window where that can be chosen, that no test changes."""
    return make(name, padding=padding, **{"window_s": 0.5} if "window_s" in settings_of(name) else {})


def noise(samples: int = WINDOW, seed: int = 0, level: float = 0.1) -> torch.Tensor:
    return level * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def swelling(samples: int = WINDOW) -> torch.Tensor:
    """Return noise that begins in silence and rises over many orders of magnitude."""
    return noise(samples, level=1.0) * torch.linspace(0, 1, samples) ** 4


def stored(features: Representation, sound: torch.Tensor) -> torch.Tensor:
    """Return the first window ``(1, F, frames)`` as the store gives it back."""
    return features.analyse(sound).bands[None, :, : features.frames].to(getattr(torch, features.stored_type))
