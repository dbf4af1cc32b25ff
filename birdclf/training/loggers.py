"""The loggers of a run through Lightning's interface; what only TensorBoard can show is left out of the others."""

import math
import os
import re
import socket
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from google.protobuf.text_format import MessageToString
from hydra.utils import instantiate
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.tensorboard.writer import FileWriter, SummaryWriter

from birdclf.data.dataset import Batch
from birdclf.data.module import RecordingDataModule
from birdclf.errors import UserError
from birdclf.features.mel import MelFeatures
from birdclf.metrics.plots import Picture
from birdclf.models.probes import mean_by_owner
from birdclf.runs.predictor import Predictor
from birdclf.targets import Task

NAME: Final = "events.out.tfevents"
NUMBER: Final = count()


class EventWriter(SummaryWriter):
    """Writes events into a folder; an event is written to the file when the call that adds it returns."""

    def _get_file_writer(self) -> FileWriter:  # the base class creates its own here
        found: FileWriter | None = self.file_writer
        if found is not None:
            return found
        made = _Writer(Path(self.log_dir))
        if self.purge_step is not None:
            made.add_event(Event(session_log=SessionLog(status=SessionLog.START)), self.purge_step)
        self.file_writer, self.all_writers = made, {self.log_dir: made}  # type: ignore[assignment]
        return made


class _Writer(FileWriter):
    def __init__(self, folder: Path) -> None:
        self.event_writer = _EventFile(folder)


class _EventFile:
    """Event file of a folder, with the methods that TensorBoard's writer calls.

    Raises:
        OSError: From any call that cannot write; nothing is written after that.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        last = f"{socket.gethostname()}.{os.getpid()}.{next(NUMBER)}"
        self.file = open(folder / f"{NAME}.{_time(folder):010d}.{last}", "xb")  # noqa: SIM115, closed by close
        self.records = RecordWriter(self.file)
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def get_logdir(self) -> str:
        return str(self.folder)

    def add_event(self, event: Event) -> None:
        self.records.write(event.SerializeToString())
        self.file.flush()

    def flush(self) -> None:
        """Do nothing: events are not buffered."""

    def close(self) -> None:
        with suppress(OSError):  # raised before, by the event that did not fit
            self.file.close()


def _time(folder: Path) -> int:
    """Return the second for the name of a new file, later than those of existing files: they are read in this order."""
    names = (re.match(rf"{NAME}\.(\d+)\.", path.name) for path in folder.iterdir())
    return max([int(time.time()), *(int(name[1]) + 1 for name in names if name)])


CLIPS: Final = 2_000
"""More make the projector slow, and the files large."""
SIDE: Final = 32
"""Pixels of a spectrogram's side: 2,000 fill a picture of 1,440 x 1,440."""


class ClipEmbeddings(NamedTuple):
    """Clips in the space that the last linear layer separates.

    Attributes:
        vectors: ``(N, D)`` float32, input of the network's last linear layer, the mean over a clip's windows.
        labels: ``N`` rows: ``species``, ``recording`` and ``train recordings`` of the species, to find and colour by.
        spectrograms: ``(N, 32, 32)`` in [0, 1], low frequencies at the bottom.
    """

    vectors: NDArray[np.float32]
    labels: pd.DataFrame
    spectrograms: Tensor


class ClipEmbedder(pl.Callback):
    """Keeps the input of the last linear layer while validation is predicted, of at most 2,000 evenly spaced clips.

    Validation is the first of the loaders that are predicted.
    """

    def __init__(self, data: RecordingDataModule) -> None:
        self.data = data
        clips = int(data.support("val").sum())
        self.chosen = np.unique(np.linspace(0, clips - 1, min(CLIPS, clips)).round().astype(int))
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []
        self._embeddings: list[Tensor] = []
        self._passed = 0

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Register a hook on the last linear layer; a network without one has no embeddings."""
        assert isinstance(pl_module, Predictor)
        linear = [module for module in pl_module.network.modules() if isinstance(module, nn.Linear)]
        if linear:
            self._hook = linear[-1].register_forward_pre_hook(
                lambda module, inputs: self._embeddings.append(inputs[0].detach().flatten(1))
            )

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep vectors, rows of the catalog and spectrograms of the chosen clips of a batch of the first loader."""
        embeddings, self._embeddings = self._embeddings, []
        if dataloader_idx or not embeddings:
            return
        assert isinstance(pl_module, Predictor)
        begin, self._passed = self._passed, self._passed + len(batch.target)
        wanted = torch.from_numpy(self.chosen[(self.chosen >= begin) & (self.chosen < self._passed)] - begin)
        wanted = wanted.to(batch.owner.device)
        vectors = mean_by_owner(torch.cat(embeddings).float(), batch.owner, len(batch.target))[wanted]
        bands = batch.bands[torch.searchsorted(batch.owner, wanted)]
        features = pl_module.features
        pictures = _pictures(features.to_db(bands)) if isinstance(features, MelFeatures) else _bars(features(bands))
        self.kept.append((vectors.cpu(), batch.recording[wanted].cpu(), pictures.cpu()))

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the hook."""
        if hasattr(self, "_hook"):
            self._hook.remove()

    def embeddings(self) -> ClipEmbeddings | None:
        """Return the embeddings, or None if nothing was predicted or the network has no ``nn.Linear``."""
        if not self.kept:
            return None
        vectors, row, pictures = (torch.cat(column) for column in zip(*self.kept, strict=True))
        labels = self.data.source.table.loc[row.numpy(), ["species", "recording_id"]]
        train = dict(zip(self.data.classes, self.data.support("train").tolist(), strict=True))
        labels = labels.rename(columns={"recording_id": "recording"})
        labels["train recordings"] = labels.species.map(train)
        return ClipEmbeddings(vectors.numpy(), labels, pictures)


def _pictures(mel_db: Tensor) -> Tensor:
    """Return mel spectrograms ``(B, M, T)`` as pictures ``(B, 32, 32)`` in [0, 1]."""
    small = functional.adaptive_avg_pool2d(mel_db.flip(1).unsqueeze(1), SIDE)[:, 0]
    low, high = small.amin(dim=(1, 2), keepdim=True), small.amax(dim=(1, 2), keepdim=True)
    return (small - low) / (high - low).clamp_min(1e-6)


def _bars(vectors: Tensor) -> Tensor:
    """Return vectors ``(B, E)`` as pictures ``(B, 32, 32)`` in [0, 1], as their store has no spectrogram."""
    wide = functional.adaptive_avg_pool1d(vectors.unsqueeze(1), SIDE * SIDE)
    return wide.reshape(-1, SIDE, SIDE).clamp(-2, 2) / 4 + 0.5


def _sprite(pictures: Tensor) -> Image.Image:
    """Return pictures ``(N, H, W)`` in [0, 1] as one of as many rows as columns, filled row by row."""
    n, height, width = pictures.shape
    side = math.ceil(n**0.5)
    grid = np.zeros((side * side, height, width), dtype=np.uint8)
    grid[:n] = pictures.numpy() * 255
    return Image.fromarray(grid.reshape(side, side, height, width).swapaxes(1, 2).reshape(side * height, -1))


FINAL: dict[Task, tuple[str, ...]] = {
    "single_label": ("test_accuracy", "test_macro_f1", "test_balanced_accuracy", "val_accuracy", "val_macro_f1"),
    "multi_label": ("test_cmap", "test_auroc", "test_macro_f1", "val_cmap", "val_macro_f1"),
}
"""Figures at a run's end, which are logged with its hyperparameters."""
BUCKETS = ("many", "medium", "few")

# The page of CUSTOM SCALARS. Its tags are patterns: the end sets val/macro_f1 apart from val/macro_f1_evaluable.
LAYOUT = {
    "training": {
        "negative log-likelihood": ["Multiline", ["train/nll$", "val/nll$"]],
        "accuracy": ["Multiline", ["train/accuracy$", "val/accuracy$"]],
        "cmAP and AUROC": ["Multiline", ["val/cmap$", "val/auroc$"]],
        "macro F1": ["Multiline", ["train/macro_f1$", "val/macro_f1$"]],
        "validation recall by train recordings": ["Multiline", [f"val/{b}_recall$" for b in BUCKETS]],
        "validation F1 by train recordings": ["Multiline", [f"val/{b}_f1$" for b in BUCKETS]],
        "validation cmAP by train recordings": ["Multiline", [f"val/{b}_cmap$" for b in BUCKETS]],
        "learning rate": ["Multiline", ["lr$"]],
    }
}


class TensorBoard(TensorBoardLogger):
    """Logs into ``save_dir/tensorboard``, one TensorBoard run a run folder.

    Args:
        save_dir: The run folder.
        embeddings: Whether a run logs embeddings of its validation clips to the projector when it ends.
        purge_step: First epoch, from 1, that an earlier process logged and this one logs again; None for a new run.
    """

    def __init__(self, save_dir: str, embeddings: bool = True, purge_step: int | None = None) -> None:
        super().__init__(save_dir, name="tensorboard", version="", default_hp_metric=False)
        self.embeddings, self.purge_step = embeddings, purge_step

    @property
    @rank_zero_experiment
    def experiment(self) -> EventWriter:
        """TensorBoard's writer, created at its first use."""
        if self._experiment is None:
            self._experiment = EventWriter(self.log_dir, purge_step=self.purge_step)
        assert isinstance(self._experiment, EventWriter)
        return self._experiment

    def log_hyperparams(self, params: Any, metrics: dict[str, Any] | None = None, step: int | None = None) -> None:
        """Log the hyperparameters with metrics at 0: the HPARAMS tab shows a metric only if it was there first.

        The layout puts the curves that are read together on one page.
        """
        final = FINAL["multi_label" if dict(params).get("task") == "multi_label" else "single_label"]
        super().log_hyperparams(params, metrics or {f"final/{name}": 0.0 for name in final}, step)
        self.experiment.add_custom_scalars(LAYOUT)

    def save(self) -> None:
        """Do nothing when the trainer asks for it: events are written at once, and the settings are in config.yaml."""

    def finalize(self, status: str) -> None:
        """Stay open: the trainer calls this after fit, before the final figures."""

    def close(self) -> None:
        """Close the event file."""
        if self._experiment is not None:
            self.experiment.close()

    def log_picture(self, name: str, picture: Picture, step: int) -> None:
        """Log a picture as it is encoded."""
        image = Summary.Image(
            height=picture.height, width=picture.width, colorspace=3, encoded_image_string=picture.png
        )
        event = Event(summary=Summary(value=[Summary.Value(tag=name, image=image)]))
        self.experiment._get_file_writer().add_event(event, step)

    def project(self, clips: ClipEmbeddings, epoch: int) -> None:
        """Log embeddings to the projector, with labels, the species first, and spectrograms as sprites."""
        # They are written as text: four decimals halve the size.
        vectors = np.round(clips.vectors.astype(np.float64), 4)
        board = self.experiment
        board.add_embedding(
            vectors,
            metadata=clips.labels.to_numpy().tolist(),
            metadata_header=list(clips.labels.columns),
            global_step=epoch,
            tag="validation",
        )
        # torch would write three equal channels, which takes five times as long.
        sprite = Path(f"{epoch:05}", "validation", "sprite.png")
        _sprite(clips.spectrograms).save(Path(self.log_dir) / sprite)
        projector = board._projector_config
        projector.embeddings[-1].sprite.image_path = sprite.as_posix()
        projector.embeddings[-1].sprite.single_image_dim.extend([SIDE, SIDE])
        (Path(self.log_dir) / "projector_config.pbtxt").write_text(MessageToString(projector))


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Return nested settings as one level with dotted names, lists and nulls as text.

    A group's ``_target_`` becomes its own name, such as ``loss: FocalLoss``.
    """
    out: dict[str, str | int | float | bool] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{key}.")
        elif key == "_target_":
            out[prefix.rstrip(".")] = str(value).rsplit(".", 1)[-1]
        elif key == "_partial_":
            continue
        else:
            out[prefix + key] = value if isinstance(value, str | int | float | bool) else str(value)
    return out


class Loggers(list[Logger]):
    """All loggers of a run."""

    @property
    def embeddings(self) -> bool:
        """Whether one of them logs embeddings of validation clips."""
        return any(board.embeddings for board in self._boards())

    def begin(self, config: dict[str, Any]) -> None:
        """Log the hyperparameters."""
        for logger in self:
            logger.log_hyperparams(flat(config))

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log scalars."""
        for logger in self:
            logger.log_metrics(metrics, step=step)

    def log_picture(self, name: str, picture: Picture, step: int) -> None:
        """Log a picture."""
        for board in self._boards():
            board.log_picture(name, picture, step)

    def end(self, figures: dict[str, float], pictures: dict[str, Picture], epoch: int) -> None:
        """Log the final metrics, in TensorBoard under the hyperparameters' tags, and the figures."""
        self.log_metrics({f"final/{name}": value for name, value in figures.items()}, step=epoch)
        for name, picture in pictures.items():
            self.log_picture(name, picture, epoch)

    def project(self, clips: ClipEmbeddings, epoch: int) -> None:
        """Log embeddings to the projector."""
        for board in self._boards():
            board.project(clips, epoch)

    def close(self) -> None:
        """Close all loggers; during an exception the run is reported as failed."""
        status = "success" if sys.exc_info()[0] is None else "failed"
        for logger in self:
            if isinstance(logger, TensorBoard):
                logger.close()
            else:
                logger.finalize(status)
            if isinstance(logger, WandbLogger) and logger.version is not None:
                logger.experiment.finish()  # otherwise the next job of a sweep would log to the same run

    def _boards(self) -> list[TensorBoard]:
        return [logger for logger in self if isinstance(logger, TensorBoard)]


def build_loggers(nodes: DictConfig, purge_step: int | None = None) -> Loggers:
    """Return the loggers of a configuration.

    Args:
        nodes: ``logger``, by their names.
        purge_step: First epoch, from 1, that an earlier process logged and this one logs again; None for a new run.
            Only TensorBoard uses it. The others of ``conf/logger`` begin a new version in each process.

    Raises:
        UserError: If one of them is no logger of Lightning's.
    """
    loggers = Loggers()
    for name, node in ((str(name), node) for name, node in nodes.items() if node is not None):
        logger = instantiate(node)
        if not isinstance(logger, Logger):
            raise UserError(f"logger.{name}._target_ is {node._target_}, which is no logger of Lightning's.")
        if isinstance(logger, TensorBoard):
            logger.purge_step = purge_step
        loggers.append(logger)
    return loggers
