"""Learning-rate range test, which suggests a base rate."""

import copy
import logging
import math
from pathlib import Path
from typing import Any, Final

import lightning.pytorch as pl
import numpy as np
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from numpy.typing import NDArray
from omegaconf import DictConfig
from scipy.signal import lfilter

from birdclf.data.module import RecordingDataModule
from birdclf.errors import UserError
from birdclf.files import write_whole
from birdclf.metrics.plots import picture_of
from birdclf.training.build import trainer_of
from birdclf.training.callbacks.snapshot import random_state, set_random_state
from birdclf.training.loggers import Loggers, build_loggers
from birdclf.training.module import Diverged, SpeciesClassifier
from birdclf.training.optim.schedules import constant
from birdclf.training.processes import group_of

log = logging.getLogger(__name__)

LOWEST: Final = 1e-7
HIGHEST: Final = 10.0
STEPS: Final = 100
TOO_HIGH: Final = 4.0  # times the lowest loss, at which the test ends
SMOOTHING: Final = 0.9


class RangeTest(Callback):
    """Raises the rate by the same factor at every optimizer step, and records the loss (Smith, 2017, section 3.3).

    Rates of parameter groups keep their factors. It ends where the smoothed loss is four times its lowest.

    Attributes:
        rates: ``(n,)`` base rate of each step.
        losses: ``(n,)`` training loss at these weights, before the step.
    """

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.waiting: list[float] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate of the current step."""
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self._rate() * group.get("factor", 1.0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the loss of a step."""
        self.waiting.append(float(outputs["loss"]))  # already divided by the number of batches per step
        if trainer.global_step > len(self.rates):
            self.rates.append(self._rate())
            self.losses.append(sum(self.waiting))
            self.waiting = []
            curve = smoothed(np.array(self.losses))
            trainer.should_stop = not curve[-1] <= TOO_HIGH * curve.min()  # NaN ends it too

    def _rate(self) -> float:
        return LOWEST * math.pow(HIGHEST / LOWEST, len(self.rates) / (STEPS - 1))


def check_finder(cfg: DictConfig) -> None:
    """Refuse settings that do not go with a range test.

    Raises:
        UserError: If it is part of a sweep, resumed, or run by several processes.
    """
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("lr_find=true suggests a rate for one configuration, and trains nothing. Leave out -m.")
    if cfg.resume:
        raise UserError("lr_find=true trains nothing that could be resumed. Leave out resume=true.")
    if group_of(cfg.trainer).count > 1:
        raise UserError(
            "lr_find=true runs in one process. Several processes share the same batch, so the rate is the same. "
            "Set trainer=default."
        )


def find_rate(
    trainer: pl.Trainer, test: RangeTest, classifier: SpeciesClassifier, data: RecordingDataModule
) -> tuple[float, pd.DataFrame]:
    """Run a range test on a copy of a classifier; its weights and the random state stay as they are.

    The trainer has the test as a callback, and stops after :data:`STEPS` steps.

    Returns:
        The suggested base rate, and a table of ``rate``, ``loss`` and ``smoothed`` loss, one row per step.

    Raises:
        UserError: If no rate lowered the loss.
    """
    twin = copy.deepcopy(classifier)
    twin.make_scheduler = constant
    before = random_state()
    try:
        trainer.fit(twin, datamodule=data, weights_only=True)
    except Diverged:
        if not test.rates:
            raise
    finally:
        set_random_state(before)
    rates, losses = np.array(test.rates), np.array(test.losses)
    finite = np.isfinite(losses)
    rates, losses = rates[finite], losses[finite]
    table = pd.DataFrame({"rate": rates, "loss": losses, "smoothed": smoothed(losses)})
    return suggestion(rates, table.smoothed.to_numpy()), table


def smoothed(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the exponential moving average of ``(n,)`` losses, with the bias of the first values corrected."""
    mean = lfilter([1 - SMOOTHING], [1, -SMOOTHING], losses)
    return np.asarray(mean / (1 - SMOOTHING ** np.arange(1, len(losses) + 1)))


def suggestion(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """Return the rate at which the smoothed loss falls fastest with the logarithm of the rate, before its lowest.

    Rates ``(n,)`` rise; losses ``(n,)`` are smoothed.

    Raises:
        UserError: If the loss never falls.
    """
    lowest = int(np.argmin(losses)) if len(losses) else 0
    if lowest == 0:
        raise UserError(
            f"lr_find: no rate from {LOWEST:g} to {HIGHEST:g} lowered the training loss. Check the data or freeze less."
        )
    slope = np.gradient(losses[: lowest + 1], np.log(rates[: lowest + 1]))
    return float(rates[int(np.argmin(slope))])


def suggest_rate(cfg: DictConfig, folder: Path, classifier: SpeciesClassifier, data: RecordingDataModule) -> float:
    """Suggest a base rate without training, and write the curve that it is read from."""
    test = RangeTest()
    length = {"max_epochs": STEPS * 1000, "max_steps": STEPS, "limit_val_batches": 0}
    trainer = trainer_of(cfg, [test], logger=False, enable_checkpointing=False, **length)
    rate, table = find_rate(trainer, test, classifier, data)
    logger = build_loggers(cfg.logger)
    try:
        write_finding(folder, rate, table, logger)
    finally:
        logger.close()
    return rate


def write_finding(folder: Path, rate: float, table: pd.DataFrame, logger: Loggers) -> None:
    """Write and log ``lr_find.csv`` and ``lr_find.png``, and log the suggested rate."""
    write_whole(folder / "lr_find.csv", table.to_csv(index=False))
    picture = picture_of(_figure(rate, table))
    (folder / "lr_find.png").write_bytes(picture.png)
    logger.log_picture("lr_find", picture, step=0)
    for step, (tried, loss) in enumerate(zip(table.rate.to_list(), table.smoothed.to_list(), strict=True)):
        logger.log_metrics({"lr_find/rate": tried, "lr_find/loss": loss}, step=step)
    digits = 1 - math.floor(math.log10(rate))
    log.info("suggested: optimizer.lr=%g; nothing was trained. %s", round(rate, digits), folder / "lr_find.png")


def _figure(rate: float, table: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(table.rate, table.loss, alpha=0.3, color="C0", label="step")
    axes.plot(table.rate, table.smoothed, color="C0", label="smoothed")
    axes.axvline(rate, color="C1", label=f"suggested, {rate:.2g}")
    axes.set_ylim(0, min(table.loss.max(), 2 * table.loss.iloc[0]))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure
