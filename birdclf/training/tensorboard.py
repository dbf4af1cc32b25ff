"""TensorBoard: curves, hyperparameters with final metrics, figures."""

from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure

FINAL = ("test_accuracy", "test_macro_f1", "test_balanced_accuracy", "val_accuracy", "val_macro_f1")


class RunLogger(TensorBoardLogger):
    """Logs into ``save_dir/tensorboard``, one TensorBoard run a run folder.

    Args:
        save_dir: The run folder.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="tensorboard", version="", default_hp_metric=False)

    def begin(self, config: dict[str, Any]) -> None:
        """Log the hyperparameters with metrics at 0: the HPARAMS tab shows a metric only if it was there first."""
        self.log_hyperparams(flat(config), {f"final/{name}": 0.0 for name in FINAL})

    def finalize(self, status: str) -> None:
        """Write what is waiting, and stay open: the trainer calls this after fit, before the final figures."""
        self.experiment.flush()

    def close(self) -> None:
        """Close the event file."""
        self.experiment.close()

    def end(self, figures: dict[str, float], pictures: dict[str, Figure], epoch: int) -> None:
        """Log the final metrics under the hyperparameters' tags, and the figures."""
        self.log_metrics({f"final/{name}": figures[name] for name in FINAL}, step=epoch)
        for name, picture in pictures.items():
            self.experiment.add_figure(name, picture, global_step=epoch)
        self.experiment.flush()


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
