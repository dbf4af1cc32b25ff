"""Embeddings of validation clips, for TensorBoard's projector."""

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from birdclf.data.dataset import Batch, WindowDataset
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
        species: ``N`` names.
        spectrograms: ``(N, 3, 32, 32)`` in [0, 1], low frequencies at the bottom, as smooth as the MFCC are.
    """

    vectors: NDArray[np.float32]
    species: list[str]
    spectrograms: Tensor


@torch.no_grad()
def clip_embeddings(predictor: Predictor, data: RecordingDataModule) -> ClipEmbeddings | None:
    """Return embeddings of at most 2,000 validation clips, at even steps, or None for a network without ``nn.Linear``.

    Args:
        predictor: With trained weights; left in evaluation mode.
        data: Prepared data.
    """
    linear = [module for module in predictor.network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        return None
    dataset = data.val_dataloader().dataset
    assert isinstance(dataset, WindowDataset)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(CLIPS, len(dataset))).round().astype(int)).tolist()
    seen: list[Tensor] = []
    hook = linear[-1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().flatten(1)))
    predictor.eval()
    vectors, pictures, target = [], [], []
    try:
        for i in range(0, len(chosen), data.batch_size):
            batch = Batch(
                *(part.to(predictor.device) for part in dataset.__getitems__(chosen[i : i + data.batch_size]))
            )
            seen.clear()
            predictor.recording_logits(batch)
            vectors.append(mean_by_owner(torch.cat(seen).float(), batch).cpu())
            first = torch.searchsorted(batch.owner, torch.arange(len(batch.target), device=batch.owner.device))
            pictures.append(_spectrograms(batch.bands[first].float(), predictor.features.dct).cpu())
            target.append(batch.target.cpu())
    finally:
        hook.remove()
    species = [data.classes[k] for k in torch.cat(target).tolist()]
    return ClipEmbeddings(torch.cat(vectors).numpy(), species, torch.cat(pictures))


def _spectrograms(bands: Tensor, dct: Tensor) -> Tensor:
    """Return mel spectrograms ``(B, 3, 32, 32)`` in [0, 1] of MFCC ``(B, n_mfcc, T)``, by the transpose of the DCT."""
    mel = (dct.T @ bands).flip(1).unsqueeze(1)
    small = functional.adaptive_avg_pool2d(mel, SIDE)
    low, high = small.amin(dim=(1, 2, 3), keepdim=True), small.amax(dim=(1, 2, 3), keepdim=True)
    return ((small - low) / (high - low).clamp_min(1e-6)).expand(-1, 3, -1, -1)
