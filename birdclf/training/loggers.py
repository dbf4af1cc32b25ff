"""The loggers of a run, through Lightning's interface; what only TensorBoard can show is left out of the others."""

import sys
from typing import Any

import numpy as np
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger, WandbLogger
from numpy.typing import NDArray
from omegaconf import DictConfig

from birdclf.errors import UserError
from birdclf.training.tensorboard import FINAL, ClipEmbeddings, RunLogger, flat


class Loggers(list[Logger]):
    """All loggers of a run, of which each gets what it can show."""

    @property
    def embeddings(self) -> bool:
        """Whether one of them projects validation clips."""
        return any(board.embeddings for board in self._boards())

    def begin(self, config: dict[str, Any]) -> None:
        """Log the hyperparameters."""
        for logger in self:
            if isinstance(logger, RunLogger):
                logger.begin(config)
            else:
                logger.log_hyperparams(flat(config))

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log scalars."""
        for logger in self:
            logger.log_metrics(metrics, step=step)

    def log_picture(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """Log a picture ``(height, width, 3 or 4)``."""
        for board in self._boards():
            board.log_picture(name, picture, step)

    def end(self, figures: dict[str, float], pictures: dict[str, NDArray[np.uint8]], epoch: int) -> None:
        """Log the final metrics, and the figures."""
        for logger in self:
            if isinstance(logger, RunLogger):
                logger.end(figures, pictures, epoch)
            else:
                logger.log_metrics({f"final/{name}": figures[name] for name in FINAL}, step=epoch)

    def project(self, clips: ClipEmbeddings, epoch: int) -> None:
        """Log embeddings to the projector."""
        for board in self._boards():
            board.project(clips, epoch)

    def close(self) -> None:
        """Close all of them; an exception that passes through is told as a failure."""
        status = "success" if sys.exc_info()[0] is None else "failed"
        for logger in self:
            if isinstance(logger, RunLogger):
                logger.close()
            else:
                logger.finalize(status)
            if isinstance(logger, WandbLogger) and logger.version is not None:
                logger.experiment.finish()  # else the next job of a sweep in this process would log to the same run

    def _boards(self) -> list[RunLogger]:
        return [logger for logger in self if isinstance(logger, RunLogger)]


def build_loggers(nodes: DictConfig, purge_step: int | None = None) -> Loggers:
    """Return the loggers of a configuration.

    Args:
        nodes: ``logger``, by their names.
        purge_step: First epoch, from 1, that an earlier process logged and this one logs again; None for a new run.
            TensorBoard goes by it. The others of ``conf/logger`` begin a new version in each process.

    Raises:
        UserError: If one of them is no logger of Lightning's.
    """
    loggers = Loggers()
    for name, node in nodes.items():
        if node is None:
            continue
        logger = instantiate(node)
        if not isinstance(logger, Logger):
            raise UserError(f"logger.{name}._target_ is {node._target_}, which is no logger of Lightning's.")
        if isinstance(logger, RunLogger):
            logger.purge_step = purge_step
        loggers.append(logger)
    return loggers
