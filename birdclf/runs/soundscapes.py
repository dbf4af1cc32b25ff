"""Evaluations on soundscapes, as ``birdclf evaluate RUN --soundscapes DIR`` writes them into a run folder."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from birdclf.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from birdclf.metrics.label_predictions import LabelPredictions

PREFIX: Final = "soundscapes_"
"""Begin of the name of an evaluation's folder."""
SPLIT: Final = "soundscape"
"""Split of the run's own rows in ``predictions.parquet``; those of a table of detections have its name."""
RATE: Final = "false_detections_per_hour"
FIGURES: Final = {
    "cmap": "cmAP", "auroc": "AUROC", "t1_accuracy": "T1 accuracy", "micro_f1": "micro F1", "macro_f1": "macro F1",
    "recall_at_precision": "recall at precision", "precision_at_recall": "precision at recall",
    RATE: "false detections / h", "ece": "ECE",
}  # fmt: skip
"""Figures that are shown, and their names for a reader."""


@dataclass(frozen=True)
class SoundscapeEvaluation:
    """The folder of an evaluation on soundscapes; each file is read at its first use."""

    folder: Path

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Content of ``metrics.json``.

        Raises:
            UserError: If it is missing or damaged.
        """
        file = self.folder / "metrics.json"
        try:
            metrics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            _ = [metrics[SPLIT][name] for name in FIGURES], metrics["detections"], metrics["fall"], metrics["counts"]
            _ = metrics["settings"]["threshold"], metrics["settings"]["confidence"], metrics["soundscapes"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} cannot be read: {error!r}. Evaluate the run again, to another folder.") from error
        return metrics

    @cached_property
    def per_class(self) -> "pd.DataFrame":
        """One row a species that was judged; see :mod:`birdclf.detection.evaluate`."""
        import pandas as pd

        from birdclf.data.tables import read_own

        table = read_own(self.folder / "per_class.csv", ("species", "segments", "average_precision"))
        numbers = table.columns.drop("species")
        return table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in numbers})

    def predictions(self, program: str = SPLIT) -> "LabelPredictions":
        """Return the run's predictions of the segments, or those of a table of detections by its name."""
        from birdclf.metrics.label_predictions import read_label_predictions

        return read_label_predictions(self.folder / "predictions.parquet", program)[0]


def soundscape_evaluations(run: Path) -> dict[str, SoundscapeEvaluation]:
    """Return the evaluations in a run folder by the name of the soundscapes."""
    found = sorted(folder for folder in (run / "evaluations").glob(f"{PREFIX}*") if folder.is_dir())
    return {folder.name.removeprefix(PREFIX): SoundscapeEvaluation(folder) for folder in found}
