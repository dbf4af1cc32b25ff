"""Callbacks that write the times of training steps of a real ``birdclf train``, which the benchmark reads meanwhile."""

import time

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from birdclf.data.dataset import Batch
from birdclf.training.module import SpeciesClassifier


class StepClock(Callback):
    """Writes the time at which each step ends; a step is loader, network and trainer together.

    Args:
        path: File that gets a line a step.
    """

    def __init__(self, path: str) -> None:
        self.file = open(path, "w", buffering=1)  # noqa: SIM115, open as long as the process

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Write the time, on a GPU after it has finished the step."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self.file.write(f"{time.perf_counter()}\n")


class BareSteps(Callback):
    """After each step of the trainer takes one without it: same loader, module, optimizer and process.

    Compared steps are thus half a second apart, under the same load of the machine.

    Args:
        path: File that gets a line a pair of steps: the seconds of the trainer's step, of the bare one, and in the bare
            one of fetching the batch and of making its features (deltas and normalisation).
    """

    def __init__(self, path: str) -> None:
        self.file = open(path, "w", buffering=1)  # noqa: SIM115, open as long as the process
        self.running_loss = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open a loader for the bare steps of the epoch, with batches that the trainer has not just read."""
        loader = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        loader.sampler.set_epoch(trainer.current_epoch + (trainer.max_epochs or 0))
        self.batches = iter(loader)
        self.mark = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Take a bare step and write both times."""
        assert isinstance(pl_module, SpeciesClassifier)
        begin = time.perf_counter()
        batch = next(self.batches)
        fetched = time.perf_counter()
        features = pl_module.features(batch.bands).contiguous(memory_format=pl_module.memory_format)
        made = time.perf_counter()
        self._learn(trainer, pl_module, features, batch.target)
        end = time.perf_counter()
        self.file.write(f"{begin - self.mark} {end - begin} {fetched - begin} {made - fetched}\n")
        self.mark = time.perf_counter()

    def _learn(self, trainer: pl.Trainer, classifier: SpeciesClassifier, features: Tensor, target: Tensor) -> None:
        optimizer = trainer.optimizers[0]
        with trainer.precision_plugin.forward_context():
            loss = classifier.loss(classifier.network(features), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(classifier.network.parameters(), 1.0)
        optimizer.step()
        self.running_loss += loss.item()
