"""A stand-in for a port of Perch 2: a tiny network of timm of one channel, its weights and its ONNX file."""

from pathlib import Path

import torch
from torch import Tensor, nn

from birdclf.features.perch_mel import PerchMel

NAME = "test_efficientnet"


class Port(nn.Module):
    """Windows of sound ``(B, 160000)`` to embeddings, as the original gives them."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.features, self.backbone = PerchMel(peak=None), backbone  # the embedder scales to the peak
        self.features.without_fft()

    def forward(self, waveforms: Tensor) -> Tensor:
        bands = self.features.analyse_windows(waveforms)
        return self.backbone(bands.transpose(1, 2).unsqueeze(1))


def backbone(channels: int = 1, classes: int = 0) -> nn.Module:
    """Return a seeded network whose batch norms have statistics, as those of a trained one."""
    import timm

    torch.manual_seed(3)
    made = timm.create_model(NAME, in_chans=channels, num_classes=classes)
    with torch.no_grad():
        for _ in range(30):
            made.train()(0.3 * torch.randn(4, channels, 100, 128) - 0.8)
    return made.eval()


def write_weights(file: Path, channels: int = 1) -> Path:
    """Write its state dict, with a head for other classes."""
    torch.save(backbone(channels, classes=7).state_dict(), file)
    return file


def write_onnx(file: Path) -> Path:
    """Write the original, whose input is ``(1, 160000)`` and whose output is ``embedding``."""
    network = backbone(classes=7)
    network.reset_classifier(0)
    torch.onnx.export(
        Port(network).eval(), (torch.randn(1, 160_000),), file, output_names=["embedding"], dynamo=True, verbose=False
    )
    return file
