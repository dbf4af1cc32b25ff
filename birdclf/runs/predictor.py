"""Inference of a network on stored features, without training."""

from collections.abc import Mapping

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from birdclf.data.dataset import Batch
from birdclf.features.representation import Representation
from birdclf.metrics.label_predictions import AnyPredictions, LabelPredictions
from birdclf.metrics.predictions import Predictions
from birdclf.models.probes import Probe, in_format, mean_by_owner

WINDOWS_AT_ONCE = 256  # bounds the memory of an evaluation over all windows of long recordings


class Predictor(pl.LightningModule):
    """Turns stored features into logits.

    Args:
        network: features ``(B, C, F, T)`` or vectors ``(B, E)`` to ``(B, K)`` logits.
        features: Fitted feature module, stored bands to features.
        channels_last: Keep the network's tensors in channels-last memory format.
    """

    def __init__(self, network: nn.Module, features: Representation, channels_last: bool = True) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.features = features

    def forward(self, bands: Tensor) -> Tensor:
        """Map stored bands ``(W, F, T)`` to logits ``(W, K)``."""
        return self.logits(self.features(bands))

    def logits(self, features: Tensor) -> Tensor:
        """Map normalised features ``(W, C, F, T)`` or ``(W, E)`` to logits ``(W, K)``."""
        logits: Tensor = self.network(in_format(features, self.memory_format))
        return logits

    def pooled(self, logits: Tensor, features: Tensor, owner: Tensor, recordings: int) -> Tensor:
        """Return one row of logits a recording ``(B, K)``, of those of its windows ``(W, K)``.

        Args:
            logits: ``(W, K)``.
            features: ``(W, ...)`` normalised features of the windows.
            owner: ``(W,)`` position of each window's recording, ascending.
            recordings: B.
        """
        if len(logits) == recordings:
            return logits
        if isinstance(self.network, Probe):
            return self.network.pool_windows(logits, features, owner, recordings)
        return mean_by_owner(logits, owner, recordings)

    def recording_logits(self, batch: Batch) -> Tensor:
        """Return one row of logits a recording ``(B, K)``, pooled over its windows."""
        if len(batch.bands) == len(batch.target):
            return self.forward(batch.bands)
        if isinstance(self.network, Probe):  # pooling may need all vectors, which are small
            features = self.features(batch.bands)
            return self.pooled(self.logits(features), features, batch.owner, len(batch.target))
        logits = torch.cat([self.forward(part) for part in torch.split(batch.bands, WINDOWS_AT_ONCE)])
        return mean_by_owner(logits, batch.owner, len(batch.target))

    def evaluation_logits(self, batch: Batch) -> Tensor:
        """Return :meth:`recording_logits` in float32 whatever the trainer's mixed precision.

        So figures depend neither on the kind of processor nor on the precision that it was trained in.
        """
        with torch.autocast(self.device.type, enabled=False):
            return self.recording_logits(batch)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> tuple[Tensor, ...]:
        """Return ``(recording, target, logits, windows)`` of a batch on the CPU, the last the number of each."""
        logits = self.evaluation_logits(batch)
        windows = torch.bincount(batch.owner, minlength=len(batch.target))
        return batch.recording.cpu(), batch.target.cpu(), logits.float().cpu(), windows.cpu()


def predict(
    trainer: pl.Trainer, predictor: Predictor, loaders: Mapping[str, DataLoader[Batch]], recordings: pd.DataFrame
) -> dict[str, AnyPredictions]:
    """Return the predictions for each split, on the trainer's device and in its precision.

    ``recordings`` is the catalog's table, to whose rows the batches point.
    """
    batches = trainer.predict(predictor, dataloaders=list(loaders.values()))
    assert batches is not None
    parts_of = dict(zip(loaders, [batches] if len(loaders) == 1 else batches, strict=True))
    cluster = recordings.group.where(recordings.group != "", recordings.recording_id).to_numpy(dtype=object)
    ids = recordings.recording_id.to_numpy(dtype=object)
    out: dict[str, AnyPredictions] = {}
    for stage, parts in parts_of.items():
        row, target, logits, windows = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
        if target.ndim == 1:
            out[stage] = Predictions(ids[row], target, logits, cluster[row])
        else:
            sound_s = windows * (predictor.features.window_samples / predictor.features.sample_rate_hz)
            out[stage] = LabelPredictions(ids[row], target.astype(np.int8), logits, cluster[row], sound_s)
    return out
