"""Fixtures that several rooms share: seeded fake sound in the layouts that real sources have."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from composing import compositions_kept
from hypothesis import settings

from birdclf.cores import NEIGHBOURS
from birdclf.data.catalog import Catalog
from birdclf.data.sources.folder import folder_catalog
from birdclf.features.mfcc import MFCCStack
from birdclf.random import stream
from birdclf.store.open import FeatureStore, open_store

gc.disable()  # until the tests begin: looking for garbage in what is imported takes a third of that time
settings.register_profile("birdclf", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("birdclf")

SPECIES_HZ = {"barn owl": 1200.0, "crane": 2100.0, "marsh tit": 3900.0, "wood lark": 6200.0}
RECORDINGS = 8  # of each species

Tone = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep feature stores out of the checkout, torch to two threads in all, and compositions for the next command."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    torch.set_num_threads(max(1, 2 // processes))
    NEIGHBOURS.before = None  # other tests keep the cores busy
    gc.freeze()
    gc.enable()
    with pytest.MonkeyPatch.context() as patch, compositions_kept():
        patch.setenv("BIRDCLF_STORE", str(tmp_path_factory.mktemp("stores")))
        yield


def write_tone(
    path: Path,
    seconds: float = 1.0,
    rate: int = 32_000,
    hz: float = 2000.0,
    channels: int = 1,
    noise: float = 0.01,
    level: float = 0.5,
    **options: str,
) -> Path:
    """Write a tone with noise drawn from the file's name; ``options`` go to ``soundfile.write``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = round(seconds * rate)
    wave = level * np.sin(2 * np.pi * hz * np.arange(samples) / rate)
    wave = wave + noise * stream("tone", path.name).standard_normal(samples)
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1).astype(np.float32), rate, **options)
    return path


@pytest.fixture(scope="session")
def tone() -> Tone:
    """Return the writer of a sound file: ``tone(path, seconds, rate, hz, ...)``."""
    return write_tone


@pytest.fixture(scope="session")
def folder_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of four species with eight recordings each, 0.6 to 7.6 s long."""
    root = tmp_path_factory.mktemp("recordings")
    for species, hz in SPECIES_HZ.items():
        for n in range(RECORDINGS):
            write_tone(root / species / f"{species[:2]}{n}.wav", seconds=0.6 + n, hz=hz * (1 + 0.02 * n), noise=0.05)
    return root


@pytest.fixture(scope="session")
def folder(folder_root: Path) -> Catalog:
    """Return the catalog of :func:`folder_root`."""
    return folder_catalog(str(folder_root))


@pytest.fixture(scope="session")
def store_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the session's feature stores."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def store(folder: Catalog, store_root: Path) -> FeatureStore:
    """Return the default features of :func:`folder`."""
    return open_store(folder, MFCCStack(), store_root, workers=0)


@pytest.fixture
def numbered_store(tmp_path: Path) -> Callable[[list[int]], FeatureStore]:
    """Return a maker of stores whose frame i holds ``(i // 1000, i % 1000)``, so that a cut can be read back."""

    def make(lengths: list[int], level_db: np.ndarray | None = None) -> FeatureStore:
        folder = tmp_path / "numbered"
        folder.mkdir()
        total = sum(lengths)
        number = np.arange(total)
        np.stack([number // 1000, number % 1000], axis=1).astype(np.float16).tofile(folder / "frames.f16")
        (np.zeros(total) if level_db is None else level_db).astype(np.float16).tofile(folder / "level.f16")
        index = pd.DataFrame(
            {
                "recording_id": [f"r{i}" for i in range(len(lengths))],
                "offset": np.cumsum([0, *lengths[:-1]]),
                "frames": lengths,
            }
        )
        return FeatureStore(folder, index, n_bands=2)

    return make
