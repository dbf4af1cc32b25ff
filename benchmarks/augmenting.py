"""Time that augmentation adds to a training step of phase2b, each and the usual chain, in turns in one run."""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import lightning.pytorch as pl
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from measure import WARMUP, birdclf_program
from omegaconf import OmegaConf
from turns import running

from birdclf.augment.chain import BatchPosition, Chain
from birdclf.config import conf_dir
from birdclf.data.dataset import Batch
from birdclf.training.module import SpeciesClassifier

NAMES = sorted(path.stem for path in (conf_dir() / "augment").glob("*.yaml") if path.stem != "none")
USUAL = ("specaugment", "mixup")
CHAINS = {**{name: (name,) for name in NAMES}, "specaugment and mixup": USUAL}


class AugmentTurns(Callback):
    """After each step computes the features of its batch again, plain and by each chain in turn.

    Args:
        path: File that gets a line a step: the seconds of the step, of plain features, and of those by each chain.
    """

    def __init__(self, path: str) -> None:
        self.file = open(path, "w", buffering=1)  # noqa: SIM115, open as long as the process

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Build the chains by their files."""
        assert isinstance(pl_module, SpeciesClassifier)
        data = trainer.datamodule  # type: ignore[attr-defined]
        files = {name: dict(OmegaConf.load(conf_dir() / "augment" / f"{name}.yaml"))[name] for name in NAMES}
        self.chains = [
            Chain(
                {name: instantiate(files[name], _convert_="all") for name in names},
                pl_module.features, data.class_counts, data.seed, data.batch_size,
            )
            for names in CHAINS.values()
        ]  # fmt: skip
        self.mark = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Write the times."""
        assert isinstance(pl_module, SpeciesClassifier)
        times = [time.perf_counter() - self.mark]
        moment = BatchPosition(trainer.current_epoch, batch_idx)
        begin = time.perf_counter()
        pl_module.features(batch.bands)
        times.append(time.perf_counter() - begin)
        for chain in self.chains:
            begin = time.perf_counter()
            chain(batch.bands, batch.target, pl_module.features, moment)
            times.append(time.perf_counter() - begin)
        self.file.write(" ".join(map(str, times)) + "\n")
        self.mark = time.perf_counter()


def augmenting(folder: Path, steps: int = 40) -> dict[str, Any]:
    """Return the share of a step that each chain adds, and the median step in seconds."""
    with running(birdclf_program(folder, "AugmentTurns", "augmenting")) as program:
        lines = program.read(WARMUP + steps)[WARMUP : WARMUP + steps]
    step, plain, *chains = zip(*lines, strict=True)
    seconds = {
        name: median(a - b for a, b in zip(column, plain, strict=True))
        for name, column in zip(CHAINS, chains, strict=True)
    }
    return {"step_s": median(step), "added_s": seconds, "share": {k: v / median(step) for k, v in seconds.items()}}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="birdclf-bench-") as folder:
        found = augmenting(Path(folder))
    print(f"a step: {1000 * found['step_s']:.0f} ms")
    for name, share in found["share"].items():
        print(f"{name:24} {1000 * found['added_s'][name]:6.1f} ms {100 * share:6.2f} %")


if __name__ == "__main__":
    main()
