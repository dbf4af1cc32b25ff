"""A checkpoint as one module, from waveforms to calibrated probabilities."""

import numpy as np
import torch
from torch import Tensor, nn

from birdclf.features.embedders.embedder import VectorFeatures
from birdclf.models.head import output_layer
from birdclf.models.probes import in_format
from birdclf.posthoc.energy import Rejection
from birdclf.runs.checkpoint import LoadedRun


class WaveformClassifier(nn.Module):
    """Windows of sound ``(B, samples)`` to probabilities ``(B, K)`` and embeddings ``(B, D)``.

    Features are those of a recording as long as the window; logits are adjusted and divided by the temperature as the
    checkpoint says. Probabilities of a window that it rejects are 0. An embedding is the input of the network's last
    layer.

    Args:
        channels_last: Keep the network's tensors in channels-last memory format; None for the training's choice.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, loaded: LoadedRun, channels_last: bool | None = None) -> None:
        super().__init__()
        last = loaded.channels_last if channels_last is None else channels_last
        self.memory_format = torch.channels_last if last else torch.contiguous_format
        self.features = loaded.features
        self.of_sets = loaded.task == "multi_label"
        self.network = loaded.network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        scale, offset = affine(loaded)
        self.register_buffer("scale", torch.from_numpy(scale))
        self.register_buffer("offset", torch.from_numpy(offset))
        self.least = loaded.adjustment.threshold if isinstance(loaded.adjustment, Rejection) else None
        self._embeddings: list[Tensor] = []
        output_layer(self.network, len(loaded.classes)).register_forward_pre_hook(self._keep_embedding)
        self.eval()

    def _keep_embedding(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._embeddings.append(inputs[0])

    def forward(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities ``(B, K)`` and embeddings ``(B, D)``, float32, of windows ``(B, samples)``."""
        return self.of_bands(self._bands(waveforms))

    def of_bands(self, bands: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same of stored features ``(B, F, frames)`` of windows."""
        features = self.features(bands)
        self._embeddings.clear()
        logits = self.network(in_format(features, self.memory_format)).float()
        embeddings = self._embeddings.pop().flatten(1)
        scaled = logits * self.scale + self.offset
        probabilities = scaled.sigmoid() if self.of_sets else torch.softmax(scaled, dim=1)
        if self.least is not None:
            accepted = torch.logsumexp(logits, dim=1, keepdim=True) >= self.least
            probabilities = torch.where(accepted, probabilities, 0.0)
        return probabilities, embeddings.float()

    def _bands(self, waveforms: Tensor) -> Tensor:
        """Return the bands of windows; on a CPU spectra one by one, as one fits its cache."""
        vectors = isinstance(self.features, VectorFeatures)
        if vectors or waveforms.device.type != "cpu" or torch.compiler.is_exporting():
            return self.features.analyse_windows(waveforms)
        return torch.cat([self.features.analyse_windows(one) for one in torch.split(waveforms, 1)])


class VectorClassifier(WaveformClassifier):
    """Vectors ``(B, E)`` of a frozen network to probabilities ``(B, K)`` and embeddings ``(B, D)``."""

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities ``(B, K)`` and embeddings ``(B, D)``, float32, of vectors ``(B, E)``."""
        return self.of_bands(vectors.unsqueeze(2))


def affine(loaded: LoadedRun) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and offset ``(K,)``, float32, of logits ``(.., K)`` before softmax or sigmoid.

    Every adjustment is affine in each class, and two points determine it.
    """
    temperature = loaded.temperature or 1.0
    ends = np.stack([np.zeros(len(loaded.classes)), np.ones(len(loaded.classes))])
    zero, one = ends if loaded.adjustment is None else loaded.adjustment.apply(ends).astype(np.float64)
    return ((one - zero) / temperature).astype(np.float32), (zero / temperature).astype(np.float32)
