"""AudioCNNv2, the study's large network: 4,222,041 parameters at 89 classes."""

from torch import Tensor, nn

from birdclf.models.blocks import ConvBlock, dropout_layer, initialise, scale_channels
from birdclf.models.head import classifier_layer


class AudioCNNv2(nn.Module):
    """Five convolutions, four of them pooled, global average pooling, two linear layers.

    Args:
        dropout: Share of the units dropped before each linear layer in training, in [0, 1).
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
        c1, c2, c3, c4 = (scale_channels(channels, width) for channels in (64, 128, 256, 512))
        self.features = nn.Sequential(
            ConvBlock(in_channels, c1, pool=True),
            ConvBlock(c1, c2, pool=True),
            ConvBlock(c2, c3, pool=True),
            ConvBlock(c3, c4, pool=True),
            ConvBlock(c4, c4),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            dropout_layer(dropout),
            nn.Linear(c4, c4),
            nn.ReLU(),
            dropout_layer(dropout),
            classifier_layer(head, c4, num_classes, scale),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(B, in_channels, F, T)``, F and T at least 16, to logits ``(B, K)``."""
        logits: Tensor = self.classifier(self.features(x))
        return logits
