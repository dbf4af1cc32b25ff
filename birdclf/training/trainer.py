"""The Lightning trainer, with the fastest precision of the device."""

import platform
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from birdclf.checks import in_range, whole
from birdclf.declared import check_arguments
from birdclf.errors import UserError
from birdclf.runs.checkpoint import write_checkpoint
from birdclf.training.processes import TIMEOUT_S, group_of


class Compile(Callback):
    """Compiles the network in place by ``torch.compile``; checkpoints keep its names.

    Args:
        backend: Name of the backend; ``inductor`` makes kernels, ``eager`` only follows the network.

    Raises:
        UserError: If there is no such backend.
    """

    def __init__(self, backend: str) -> None:
        known = torch.compiler.list_backends(exclude_tags=())
        if backend not in known:
            raise UserError(f"trainer.compile is {backend!r}; it must be null or one of {', '.join(known)}.")
        self.backend = backend

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compile; the work is done at the first batch."""
        if stage == "fit":
            network = pl_module.network
            assert isinstance(network, nn.Module)
            network.compile(backend=self.backend)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove the compiled code: a run's final figures use the same arithmetic as an evaluation's."""
        pl_module.network._compiled_call_impl = None  # type: ignore[union-attr]  # torch has no way back of its own


class Parallel(DDPStrategy):
    """Lightning's DDP, whose validation exchanges nothing: the parts of a split differ in length."""

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module itself instead of the wrapper, which sends the buffers of each batch."""
        assert self.lightning_module is not None
        with self.precision_plugin.val_step_context():
            return self.lightning_module.validation_step(*args, **kwargs)


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints atomically, and reads them without executing anything in them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint whole; ``last.ckpt`` stays as ``before_last.ckpt`` when another takes its place.

        Raises:
            OSError: If it cannot be written; the old file is still there.
        """
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = True) -> Any:
        """Read a checkpoint; a file that would run code is refused by torch, whatever the caller asks for."""
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)


def fast_precision(accelerator: str = "auto") -> tuple[str, str]:
    """Return 16-bit mixed precision where the device computes fast in it, else float32, and the reason.

    A CPU without 16-bit instructions is slower in bfloat16 than in float32. GPUs since Ampere take bfloat16, which
    needs no scaling of the loss.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed", "this GPU computes in bfloat16"
        return "16-mixed", "this GPU computes in float16"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "16-mixed", "this GPU computes in float16"
    if torch.cpu._is_amx_tile_supported():
        return "bf16-mixed", "this processor has AMX"
    if torch.cpu._is_avx512_bf16_supported():
        return "bf16-mixed", "this processor has AVX512-BF16"
    if platform.machine() in ("aarch64", "arm64") and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "bf16-mixed", "this processor has bfloat16 instructions"
    return "32-true", "this processor has no bfloat16 instructions"


def check_precision(precision: str, accelerator: str) -> None:
    """Refuse 16 bits that the device lacks: Lightning would take others, or torch compute them slowly.

    Raises:
        UserError: If it lacks them.
    """
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if gpu and "bf16" in str(precision) and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(f"trainer.precision={precision}: this GPU has no bfloat16. Use auto, 16-mixed or 32-true.")
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not gpu and not torch.backends.mps.is_available())
    if on_cpu and str(precision).startswith("16"):
        raise UserError(f"trainer.precision={precision}: a CPU has no float16. Use auto, bf16-mixed or 32-true.")


def build_trainer(
    callbacks: list[Callback],
    logger: list[Logger] | bool,
    default_root_dir: Path,
    precision: str = "auto",
    accelerator: str = "auto",
    max_epochs: int = 50,
    devices: int | str | list[int] = 1,
    num_nodes: int | str = "auto",
    strategy: str = "auto",
    timeout_s: float = TIMEOUT_S,
    compile: str | None = None,
    alone: bool = False,
    **settings: Any,
) -> pl.Trainer:
    """Return a trainer.

    Args:
        callbacks: Lightning callbacks.
        logger: Lightning loggers, or False for none.
        default_root_dir: The run folder.
        precision: ``auto`` (see :func:`fast_precision`) or one of Lightning's names.
        accelerator: Lightning's name of the device.
        max_epochs: Epochs at most, 1 or more.
        devices: How many devices of each machine, each with a process of its own, or the numbers of the GPUs to use;
            ``auto`` takes as many as ``torchrun`` or ``srun`` has started processes, else all GPUs, or two processes.
        num_nodes: Machines; ``auto`` takes those of ``torchrun`` or ``srun``, else this one.
        strategy: ``auto`` for one device, ``ddp`` for several.
        timeout_s: Longest time that one of several processes waits for another.
        compile: Backend by which ``torch.compile`` compiles the network, such as ``inductor``; None does not.
        alone: Use one device whatever the settings say, to predict.
        settings: Any other argument of ``lightning.pytorch.Trainer``.

    Raises:
        UserError: If a setting is out of range, or Lightning refuses it.
    """
    group = group_of({"devices": devices, "num_nodes": num_nodes, "strategy": strategy, "accelerator": accelerator})
    in_range("trainer.timeout_s", timeout_s, 1)
    settings = check_arguments("trainer", settings, pl.Trainer)
    whole("trainer.accumulate_grad_batches", settings.get("accumulate_grad_batches", 1), 1)
    whole("trainer.max_epochs", max_epochs, 1)
    chosen = fast_precision(accelerator)[0] if precision == "auto" else precision
    check_precision(chosen, accelerator)
    # Batches come from one slice of a memory map: a worker process would cost more than it saves.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*number of training batches.*logging interval.*")
    # Norms whose statistics are frozen are in evaluation mode; that is meant.
    warnings.filterwarnings("ignore", message=".*module.* in eval mode at the start of training.*")
    # A resumed run finds its own checkpoints there.
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    # A test split is predicted by a module that was not trained in this call; that is meant.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
    # An epoch's figures are reduced over the processes before they are logged.
    warnings.filterwarnings("ignore", message=".*recommended to use .*sync_dist=True.*")
    settings.setdefault("enable_progress_bar", any(isinstance(callback, ProgressBar) for callback in callbacks))
    if compile is not None:
        callbacks = [*callbacks, Compile(compile)]
    # Lightning would take a job of a cluster's queue for one of several of its own processes.
    environment = group.environment or LightningEnvironment()
    plugins: list[Any] = [WholeCheckpoints()]
    if group.count > 1 and not alone:
        parallel: Any = Parallel(
            cluster_environment=environment,
            timeout=timedelta(seconds=timeout_s),
            gradient_as_bucket_view=True,
        )
        settings |= {"strategy": parallel, "devices": group.devices, "num_nodes": group.nodes}
        settings |= {"use_distributed_sampler": False, "sync_batchnorm": torch.cuda.is_available()}
    else:
        settings |= {"devices": 1 if isinstance(group.devices, int) else group.devices[:1]}
        plugins.append(LightningEnvironment())
    try:
        return pl.Trainer(
            callbacks=callbacks,
            logger=logger,
            default_root_dir=default_root_dir,
            precision=chosen,  # type: ignore[arg-type]
            accelerator=accelerator,
            max_epochs=max_epochs,
            plugins=plugins,
            **settings,
        )
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise UserError(f"The trainer refuses its settings: {error}") from error
