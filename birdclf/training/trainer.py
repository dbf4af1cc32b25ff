"""The Lightning trainer, with the precision that the device is fast in."""

import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger

from birdclf.errors import UserError
from birdclf.training.checkpoint import WholeCheckpoints


def fast_precision(accelerator: str = "auto") -> str:
    """Return 16-bit mixed precision where the device does it fast, else float32.

    Any GPU is fast in it, and a CPU with AMX is (bfloat16); on other CPUs bfloat16 is slower than float32.
    """
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if gpu and accelerator in ("auto", "gpu", "cuda", "mps"):
        return "16-mixed"
    amx = torch.backends.cpu.get_cpu_capability().startswith("AVX512") and torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if amx else "32-true"


def build_trainer(
    callbacks: list[Callback],
    logger: Logger | bool,
    default_root_dir: Path,
    precision: str = "auto",
    accelerator: str = "auto",
    max_epochs: int = 50,
    **settings: Any,
) -> pl.Trainer:
    """Return a trainer.

    Args:
        callbacks: Lightning callbacks.
        logger: Lightning logger.
        default_root_dir: The run folder.
        precision: ``auto`` (see :func:`fast_precision`) or one of Lightning's names.
        accelerator: Lightning's name of the device.
        max_epochs: Epochs at most, 1 or more.
        settings: Any other argument of ``lightning.pytorch.Trainer``.

    Raises:
        UserError: If Lightning refuses a setting.
    """
    if max_epochs < 1:
        raise UserError(f"trainer.max_epochs is {max_epochs}; it must be 1 or more.")
    chosen = fast_precision(accelerator) if precision == "auto" else precision
    # Batches come from one slice of a memory map: a worker process would cost more than it saves.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*number of training batches.*logging interval.*")
    # A run that goes on finds its own checkpoints there.
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    # A test split is predicted by a module that was not trained in this call; that is meant.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
    settings.setdefault("enable_progress_bar", any(isinstance(callback, ProgressBar) for callback in callbacks))
    try:
        return pl.Trainer(
            callbacks=callbacks,
            logger=logger,
            default_root_dir=default_root_dir,
            precision=chosen,  # type: ignore[arg-type]
            accelerator=accelerator,
            max_epochs=max_epochs,
            plugins=WholeCheckpoints(),
            **settings,
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"The trainer refuses its settings: {error}") from error
