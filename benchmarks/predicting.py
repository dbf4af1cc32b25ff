"""Prediction as by ``birdclf evaluate`` in an endless loop: validation and test windows of phase2b.

    python benchmarks/predicting.py STORE LINES

The network is untrained: the values of weights do not matter to the speed. LINES gets a line a batch: the time of
its end.
"""

import sys
import time
from collections.abc import Sequence, Sized
from pathlib import Path

import lightning.pytorch as pl
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback

from birdclf.config import conf_dir
from birdclf.environment import keep_freed_memory
from birdclf.training.build import build_classifier, build_data


class PredictClock(Callback):
    """Writes the time at which each whole batch ends."""

    def __init__(self, path: str, whole: int) -> None:
        self.file, self.whole = open(path, "w", buffering=1), whole  # noqa: SIM115, open as long as the process

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Sequence[Sized], batch: object,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the time."""
        if len(outputs[0]) == self.whole:
            self.file.write(f"{time.perf_counter()}\n")


def main() -> None:
    store, lines = sys.argv[1:]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose(
            "train", overrides=["experiment=phase2b", f"store.dir={store}", "run_dir=.", "trainer.accelerator=cpu"]
        )
    keep_freed_memory()
    data = build_data(cfg)
    data.prepare()
    classifier = build_classifier(cfg, data)[0]
    clock = PredictClock(lines, cfg.loader.batch_size)
    trainer = instantiate(
        cfg.trainer, alone=True, callbacks=[clock], logger=False, default_root_dir=Path(lines).parent, _convert_="all"
    )
    while True:
        trainer.predict(classifier, [data.val_dataloader(), data.test_dataloader()])


if __name__ == "__main__":
    main()
