"""The highest rate of this machine's processor: float32 matrix products of a suitable size.

It prints the time at which each series of products ends, so that it can run in turns with a training.
"""

import time

import torch
from torch import nn

from birdclf.models.audio_cnn_v2 import AudioCNNv2

SIZE, PRODUCTS = 2048, 5
FLOP = 2 * SIZE**3 * PRODUCTS  # of a line


def training_flop(batch: int, classes: int = 89) -> float:
    """Return the operations of a training step of phase2b on data, without those on the zeros of the padding.

    A product forward, one for the weight's gradient and one for the input's, except for the first layer.
    """
    found: list[float] = []

    def note(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            taps = (3 * output.shape[2] - 2) * (3 * output.shape[3] - 2)
            found.append(2.0 * batch * layer.in_channels * layer.out_channels * taps)
        elif isinstance(layer, nn.Linear):
            found.append(2.0 * batch * layer.in_features * layer.out_features)

    network = AudioCNNv2(classes)
    for layer in network.modules():
        layer.register_forward_hook(note)
    network(torch.zeros(2, 3, 20, 500))
    return 3 * sum(found) - found[0]


def main() -> None:
    torch.manual_seed(1)
    a = torch.randn(SIZE, SIZE)
    while True:
        for _ in range(PRODUCTS):
            a @ a
        print(time.perf_counter(), flush=True)


if __name__ == "__main__":
    main()
