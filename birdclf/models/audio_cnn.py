"""AudioCNN, the study's small network: 343,801 parameters at 89 classes."""

from torch import Tensor, nn

from birdclf.models.blocks import ConvBlock, dropout_layer, scale_channels
from birdclf.models.head import classifier_layer


class AudioCNN(nn.Module):
    """Three stages of two convolutions, global average pooling, two linear layers.

    Args:
        dropout: Share of the hidden units that are dropped in training, in [0, 1).
        width: Multiplies the channels of every layer; 1 is the published size.
        head: Last layer, ``linear`` as published or ``cosine``.
        scale: Scale of the cosine head's logits; None for 30.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.5,
        width: float = 1.0,
        head: str = "linear",
        scale: float | None = None,
    ) -> None:
        super().__init__()
        c1, c2, c3, hidden = (scale_channels(channels, width) for channels in (32, 64, 128, 256))
        self.features = nn.Sequential(
            ConvBlock(in_channels, c1),
            ConvBlock(c1, c1, pool=True),
            ConvBlock(c1, c2),
            ConvBlock(c2, c2, pool=True),
            ConvBlock(c2, c3),
            ConvBlock(c3, c3),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(c3, hidden),
            nn.ReLU(),
            dropout_layer(dropout),
            classifier_layer(head, hidden, num_classes, scale),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(B, in_channels, F, T)``, F and T at least 4, to logits ``(B, K)``."""
        logits: Tensor = self.classifier(self.features(x))
        return logits
