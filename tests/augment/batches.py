"""Batches that augmentations are tried on, and chains of one."""

from functools import cache
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from torch import Tensor

from birdclf.augment.augmentation import Augmentation
from birdclf.augment.chain import BatchPosition, Chain
from birdclf.config import conf_dir
from birdclf.features.mfcc import MFCCStack
from birdclf.targets import Task

NAMES = sorted(path.stem for path in (conf_dir() / "augment").glob("*.yaml") if path.stem != "none")
COUNTS = torch.tensor([400, 60, 20, 5, 1])
NOW = BatchPosition(epoch=2, batch=7, rank=0)

# All coefficients are kept: the mel bands come back whole.
EXACT = MFCCStack(window_s=1.0, n_mels=64, n_mfcc=64)


@cache
def node_of(name: str) -> Any:
    """Return what ``augment=NAME`` adds to a configuration."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=[f"augment={name}", "run_dir=x"]).augment


def built(name: str, **settings: Any) -> Augmentation:
    """Return an augmentation as its file has it, but for some settings."""
    fitting = {"max_s": 0.3} if name == "shift" else {}  # in a window of 1 s
    augmentation = instantiate(node_of(name)[name], _convert_="all", **fitting | settings)
    assert isinstance(augmentation, Augmentation)
    return augmentation


def chain(
    *augmentations: Augmentation,
    features: MFCCStack = EXACT,
    seed: int = 1,
    batch_size: int = 8,
    task: Task = "single_label",
) -> Chain:
    """Return augmentations as a run has them."""
    return Chain({type(a).name: a for a in augmentations}, features, COUNTS, seed, batch_size, task)


def batch(size: int = 8, features: MFCCStack = EXACT, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return stored bands ``(B, F, T)`` float16, of spectra that rise and fall, and targets ``(B,)``."""
    generator = torch.Generator().manual_seed(seed)
    n_mels = features.settings["n_mels"]
    db = 8 * torch.randn(size, n_mels, features.frames, generator=generator)
    db += 20 * torch.sin(torch.arange(n_mels) / 9)[:, None] - 40 + 5 * torch.randn(size, 1, 1, generator=generator)
    return features.from_db(db).half(), torch.randint(0, len(COUNTS), (size,), generator=generator)


def power_of(bands: Tensor, features: MFCCStack = EXACT) -> Tensor:
    """Return the power of mel bands ``(B, M, T)`` float64."""
    return 10 ** (features.to_db(bands).double() / 10)


def augmented_bands(link: Chain, bands: Tensor, position: BatchPosition = NOW) -> Tensor:
    """Return the stored bands ``(B, F, T)`` that a chain makes features of."""
    seen: list[Tensor] = []
    with EXACT.register_forward_pre_hook(lambda module, given: seen.append(given[0])):
        link(bands, torch.zeros(len(bands), dtype=torch.int64), EXACT, position)
    return seen[0]
