"""Power spectra of frames of sound, by the fast Fourier transform or, where there is none, by matrix products."""

import math

import torch
from torch import Tensor, nn


class PowerSpectrum(nn.Module):
    """Power ``(..., n_fft // 2 + 1)`` of frames ``(..., n)``, zeros behind each up to ``n_fft`` samples.

    Args:
        n_fft: Samples of the transform.
    """

    def __init__(self, n_fft: int) -> None:
        super().__init__()
        self.n_fft = n_fft

    def forward(self, frames: Tensor) -> Tensor:
        """Return the power spectrum of each frame."""
        spectrum = torch.fft.rfft(frames, n=self.n_fft)
        power: Tensor = spectrum.real.square() + spectrum.imag.square()
        return power


class PowerByProducts(PowerSpectrum):
    """The same by products with cosines and sines: for programs that have matrix products and no fast transform.

    Args:
        n_fft: Samples of the transform.
        samples: n, samples of a frame.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, n_fft: int, samples: int) -> None:
        super().__init__(n_fft)
        turns = torch.outer(torch.arange(samples), torch.arange(n_fft // 2 + 1)) % n_fft  # whole, so that none is lost
        angle = turns.double() * (2 * math.pi / n_fft)
        self.register_buffer("cosines", angle.cos().float(), persistent=False)
        self.register_buffer("sines", angle.sin().float(), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the power spectrum of each frame."""
        power: Tensor = (frames @ self.cosines).square() + (frames @ self.sines).square()
        return power
