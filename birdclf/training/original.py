"""Comparison of a network with the one that its weights come from, by their embeddings of the user's recordings."""

import logging
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from birdclf.data.dataset import cut
from birdclf.data.module import RecordingDataModule
from birdclf.errors import UserError
from birdclf.features.embedders.embedder import VectorFeatures
from birdclf.features.representation import Representation
from birdclf.files import write_whole
from birdclf.models.head import output_layer
from birdclf.runs.predictor import Predictor
from birdclf.store.open import FeatureStore, open_store

log = logging.getLogger(__name__)

COMPARED: Final = 100
"""Recordings, evenly spaced in the order of their ids, whose first windows are compared."""
AT_ONCE: Final = 8
ALIKE: Final = 0.99
"""Mean cosine below which the front end or the weights are doubted."""
TABLE: Final = "original.csv"


def check_original(original: object, features: Representation, width: int) -> VectorFeatures:
    """Return an embedder whose vectors can be compared with the input ``(B, width)`` of a network's last layer.

    Raises:
        UserError: If it is none, or of another window or width.
    """
    if not isinstance(original, VectorFeatures):
        raise UserError(
            f"features@original builds a {type(original).__name__}, which gives no vectors. Choose the original "
            f"network as an embedder, features@original=perch or features@original=embedder."
        )
    ours, theirs = (one.window_samples / one.sample_rate_hz for one in (features, original))
    if abs(ours - theirs) > 1e-3:
        raise UserError(
            f"The original embeds windows of {theirs:g} s, but those of the features are of {ours:g} s. Set "
            f"features.window_s={theirs:g}."
        )
    if width != original.n_bands:
        raise UserError(
            f"The original gives vectors of {original.n_bands} values, but the network's last layer takes {width}. "
            f"Choose the model that the weights were trained as."
        )
    return original


def compare(predictor: Predictor, data: RecordingDataModule, original: VectorFeatures, folder: Path) -> pd.DataFrame:
    """Compare the inputs of a network's last layer with an original's vectors; log it and write ``original.csv``.

    Each recording's first window is compared. The original's vectors are kept in a store, so that they are computed
    once.

    Returns:
        One row per recording: ``recording_id``, ``cosine``, and ``distance``, the length of the difference over that
        of the original's vector.

    Raises:
        UserError: If there is no recording that both have.
    """
    ids = data.table.recording_id.sort_values().to_numpy(dtype=object)
    chosen = ids[np.unique(np.linspace(0, len(ids) - 1, min(COMPARED, len(ids))).round().astype(int))]
    subset = data.source.subset(data.source.table.recording_id.isin(chosen))
    store = open_store(subset, original, data.store_dir, data.store_workers, data.mix)
    found = store.index.recording_id[store.index.frames > 0].to_numpy(dtype=object)
    if not len(found):
        raise UserError(
            f"The original has no vector of any of the {len(chosen)} recordings that were tried, such as {chosen[0]!r}."
        )
    theirs = torch.from_numpy(store.frames[_offsets(store, found)]).float()
    ours = torch.cat([_embeddings(predictor, data, found[i : i + AT_ONCE]) for i in range(0, len(found), AT_ONCE)])
    lengths = theirs.norm(dim=1).clamp_min(1e-12)
    table = pd.DataFrame(
        {
            "recording_id": found,
            "cosine": torch.cosine_similarity(ours, theirs).numpy(),
            "distance": ((ours - theirs).norm(dim=1) / lengths).numpy(),
        }
    )
    write_whole(folder / TABLE, table.to_csv(index=False))
    log.info(
        "original: embeddings of %d recordings have cosine %.4f on average, %.4f at least, and a relative distance of "
        "%.3f on average; %s has one row per recording",
        len(table), table.cosine.mean(), table.cosine.min(), table.distance.mean(), TABLE,
    )  # fmt: skip
    if not table.cosine.mean() >= ALIKE:
        log.warning(
            "the network does not give the original's embeddings: look for a difference between features.* and the "
            "front end that the weights were trained with, whether model.time_first fits, and which weights were loaded"
        )
    return table


def _offsets(store: FeatureStore, ids: NDArray[np.object_]) -> NDArray[np.int64]:
    return store.index.set_index("recording_id").offset.reindex(ids).to_numpy(dtype=np.int64)


@torch.no_grad()
def _embeddings(predictor: Predictor, data: RecordingDataModule, ids: NDArray[np.object_]) -> Tensor:
    """Return the inputs ``(B, D)`` of the last layer, of the first windows of recordings."""
    kept: list[Tensor] = []
    layer = output_layer(predictor.network, len(data.classes))
    hook = layer.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].flatten(1).float()))
    learning = predictor.training
    try:
        predictor.eval()(cut(data.store.frames, _offsets(data.store, ids), data.features.frames))
    finally:
        hook.remove()
        predictor.train(learning)
    return kept[0]
