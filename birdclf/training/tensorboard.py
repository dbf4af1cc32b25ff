"""TensorBoard: curves, hyperparameters with final metrics, figures, embeddings."""

from typing import Any

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from birdclf.training.events import EventWriter
from birdclf.training.projector import ClipEmbeddings

FINAL = ("test_accuracy", "test_macro_f1", "test_balanced_accuracy", "val_accuracy", "val_macro_f1")
BUCKETS = ("many", "medium", "few")

# The page of CUSTOM SCALARS. Its tags are patterns: the end sets val/macro_f1 apart from val/macro_f1_evaluable.
LAYOUT = {
    "training": {
        "negative log-likelihood": ["Multiline", ["train/nll$", "val/nll$"]],
        "accuracy": ["Multiline", ["train/accuracy$", "val/accuracy$"]],
        "macro F1": ["Multiline", ["train/macro_f1$", "val/macro_f1$"]],
        "validation recall by train recordings": ["Multiline", [f"val/{b}_recall$" for b in BUCKETS]],
        "validation F1 by train recordings": ["Multiline", [f"val/{b}_f1$" for b in BUCKETS]],
        "learning rate": ["Multiline", ["lr$"]],
    }
}


class RunLogger(TensorBoardLogger):
    """Logs into ``save_dir/tensorboard``, one TensorBoard run a run folder.

    Args:
        save_dir: The run folder.
        embeddings: Whether a run projects its validation clips when it ends.
        purge_step: First epoch, from 1, that an earlier process logged and this one logs again; None for a new run.
    """

    def __init__(self, save_dir: str, embeddings: bool = True, purge_step: int | None = None) -> None:
        super().__init__(save_dir, name="tensorboard", version="", default_hp_metric=False)
        self.embeddings, self.purge_step = embeddings, purge_step

    @property
    @rank_zero_experiment
    def experiment(self) -> EventWriter:
        """TensorBoard's writer, made when it is first asked for."""
        if self._experiment is None:
            self._experiment = EventWriter(self.log_dir, self.purge_step)
        assert isinstance(self._experiment, EventWriter)
        return self._experiment

    def begin(self, config: dict[str, Any]) -> None:
        """Log the hyperparameters with metrics at 0: the HPARAMS tab shows a metric only if it was there first.

        The layout puts the curves that are read together on one page.
        """
        self.log_hyperparams(flat(config), {f"final/{name}": 0.0 for name in FINAL})
        self.experiment.add_custom_scalars(LAYOUT)

    def save(self) -> None:
        """Do nothing when the trainer asks for it: events are written at once, and the settings are in config.yaml."""

    def finalize(self, status: str) -> None:
        """Stay open: the trainer calls this after fit, before the final figures."""

    def close(self) -> None:
        """Close the event file."""
        if self._experiment is not None:
            self.experiment.close()

    def end(self, figures: dict[str, float], pictures: dict[str, NDArray[np.uint8]], epoch: int) -> None:
        """Log the final metrics under the hyperparameters' tags, and the figures."""
        self.log_metrics({f"final/{name}": figures[name] for name in FINAL}, step=epoch)
        for name, picture in pictures.items():
            self.experiment.add_image(name, picture[..., :3], global_step=epoch, dataformats="HWC")

    def project(self, clips: ClipEmbeddings, epoch: int) -> None:
        """Log embeddings to the projector, with labels, the species first, and spectrograms as sprites."""
        # They are written as text: four decimals are half the bytes, and more than an eye can tell apart.
        vectors = np.round(clips.vectors.astype(np.float64), 4)
        self.experiment.add_embedding(
            vectors,
            metadata=clips.labels.to_numpy().tolist(),
            metadata_header=list(clips.labels.columns),
            label_img=clips.spectrograms,
            global_step=epoch,
            tag="validation",
        )


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
