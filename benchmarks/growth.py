"""Train a few steps on a made-up store; print the peak of the process's own memory in MB.

    python benchmarks/growth.py FOLDER WINDOWS

The store is real in shape and empty in content: its file takes no space on the disk. Pages of the file that the process
has mapped can be reclaimed by the system, and are not counted.
"""

import re
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

import birdclf.data.module as module
from birdclf.audio.files import FileReader
from birdclf.config import conf_dir
from birdclf.data.catalog import Catalog
from birdclf.store.open import FeatureStore
from birdclf.training.build import build_classifier, build_data

FRAMES, BANDS, WINDOWS_EACH, SPECIES = 500, 20, 6, 1000


def own_memory_mb() -> float:
    """Return the anonymous memory of this process."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def track_peak(peak: list[float]) -> None:
    """Update the peak memory until the process ends."""
    while True:
        peak[0] = max(peak[0], own_memory_mb())
        time.sleep(0.005)


def made_up(folder: Path, windows: int) -> tuple[Catalog, FeatureStore]:
    """Return recordings of half a minute, and the store of their features."""
    table, index = index_of_made_up(windows // WINDOWS_EACH, FRAMES * WINDOWS_EACH, SPECIES)
    for name, width in (("frames.f16", BANDS), ("level.f16", 1)):
        with open(folder / name, "wb") as file:
            file.truncate(2 * width * int(index.frames.sum()))
    return Catalog(table, FileReader(), "made up"), FeatureStore(folder, index, BANDS)


def index_of_made_up(n: int, frames_each: int, most_species: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a catalogue's table of n recordings of some species by a power law, and the index of its store."""
    rng = np.random.default_rng(1)
    ids = np.char.add("XC", np.arange(n).astype(str))
    species = np.minimum(rng.zipf(1.3, n), most_species)
    table = pd.DataFrame(
        {
            "recording_id": ids,
            "species": np.char.add("species ", species.astype(str)),
            "path": np.char.add(np.char.add("/recordings/", ids), ".ogg"),
            "group": np.char.add("recordist ", rng.integers(0, max(2, n // 50), n).astype(str)),
        }
    )
    frames = np.full(n, frames_each)
    seconds = frames / 100.0
    index = pd.DataFrame(
        {
            "recording_id": ids, "offset": np.cumsum(frames) - frames, "frames": frames,
            "duration_s": seconds, "header_duration_s": seconds, "native_rate_hz": 32_000, "channels": 1,
            "peak": 0.5, "rms": 0.1, "dc": 0.0, "clipped_share": 0.0, "silent_share": 0.0, "mix_loss_db": 0.0,
            "top_hz": 15_000.0, "audio_hash": [f"{i:032x}" for i in range(n)], "goes_on": "", "error": "",
            "reason": "",
        }
    )  # fmt: skip
    return table, index


def main() -> None:
    folder, windows = Path(sys.argv[1]), int(sys.argv[2])
    catalog, store = made_up(folder, windows)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=["experiment=phase2b", "model.width=0.25", "run_dir=.", "window.train=all"])
    vars(module)["open_store"] = lambda *_: store
    data = build_data(cfg)
    data.source = catalog
    vars(data.features)["fit"] = lambda _: None  # it would read every window once
    peak = [0.0]
    threading.Thread(target=track_peak, args=(peak,), daemon=True).start()
    data.prepare()
    classifier = build_classifier(cfg, data)[0]
    for buffer, value in (("mean", 0.0), ("std", 1.0)):
        getattr(classifier.features, buffer).fill_(value)
    trainer = instantiate(
        cfg.trainer, alone=True, callbacks=[], logger=False, default_root_dir=folder, max_epochs=1,
        limit_train_batches=20, limit_val_batches=5, enable_checkpointing=False, enable_progress_bar=False,
        _convert_="all",
    )  # fmt: skip
    trainer.fit(classifier, datamodule=data)
    print(peak[0])


if __name__ == "__main__":
    main()
