"""Embeddings of validation clips, for TensorBoard's projector."""

from typing import Any, Final, NamedTuple

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from birdclf.data.dataset import Batch
from birdclf.data.module import RecordingDataModule
from birdclf.training.predictor import Predictor, mean_by_owner

CLIPS: Final = 2_000
"""More make the projector slow, and the files large."""
SIDE: Final = 32
"""Pixels of a spectrogram's side: 2,000 fill a picture of 1,440 x 1,440."""


class ClipEmbeddings(NamedTuple):
    """Clips in the space that the last linear layer separates.

    Attributes:
        vectors: ``(N, D)`` float32, input of the network's last linear layer, the mean over a clip's windows.
        labels: ``N`` rows: ``species``, ``recording`` and ``train recordings`` of the species, to find and colour by.
        spectrograms: ``(N, 3, 32, 32)`` in [0, 1], low frequencies at the bottom.
    """

    vectors: NDArray[np.float32]
    labels: pd.DataFrame
    spectrograms: Tensor


class ClipEmbedder(pl.Callback):
    """Keeps what the last linear layer sees while a trainer predicts validation, of at most 2,000 clips at even steps.

    Args:
        data: Prepared data, whose validation is the first of the loaders that are predicted.
    """

    def __init__(self, data: RecordingDataModule) -> None:
        self.data = data
        clips = int(data.support("val").sum())
        self.chosen = np.unique(np.linspace(0, clips - 1, min(CLIPS, clips)).round().astype(int))
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []
        self._seen: list[Tensor] = []
        self._passed = 0

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to the last linear layer; a network without one has no embeddings."""
        assert isinstance(pl_module, Predictor)
        linear = [module for module in pl_module.network.modules() if isinstance(module, nn.Linear)]
        if linear:
            self._hook = linear[-1].register_forward_pre_hook(
                lambda module, inputs: self._seen.append(inputs[0].detach().flatten(1))
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
        """Keep what is wanted of a batch of the first loader: vectors, rows of the catalog and spectrograms."""
        seen, self._seen = self._seen, []
        if dataloader_idx or not seen:
            return
        assert isinstance(pl_module, Predictor)
        begin, self._passed = self._passed, self._passed + len(batch.target)
        wanted = torch.from_numpy(self.chosen[(self.chosen >= begin) & (self.chosen < self._passed)] - begin)
        wanted = wanted.to(batch.owner.device)
        vectors = mean_by_owner(torch.cat(seen).float(), batch)[wanted]
        mel_db = pl_module.features.to_db(batch.bands[torch.searchsorted(batch.owner, wanted)])
        self.kept.append((vectors.cpu(), batch.recording[wanted].cpu(), _pictures(mel_db).cpu()))

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop listening."""
        if hasattr(self, "_hook"):
            self._hook.remove()

    def embeddings(self) -> ClipEmbeddings | None:
        """Return what was kept, or None if nothing was predicted or the network has no ``nn.Linear``."""
        if not self.kept:
            return None
        vectors, row, pictures = (torch.cat(column) for column in zip(*self.kept, strict=True))
        labels = self.data.source.table.loc[row.numpy(), ["species", "recording_id"]]
        train = dict(zip(self.data.classes, self.data.support("train").tolist(), strict=True))
        labels = labels.rename(columns={"recording_id": "recording"})
        labels["train recordings"] = labels.species.map(train)
        return ClipEmbeddings(vectors.numpy(), labels, pictures)


def _pictures(mel_db: Tensor) -> Tensor:
    """Return mel spectrograms ``(B, M, T)`` as pictures ``(B, 3, 32, 32)`` in [0, 1]."""
    small = functional.adaptive_avg_pool2d(mel_db.flip(1).unsqueeze(1), SIDE)
    low, high = small.amin(dim=(1, 2, 3), keepdim=True), small.amax(dim=(1, 2, 3), keepdim=True)
    return ((small - low) / (high - low).clamp_min(1e-6)).expand(-1, 3, -1, -1)
