"""What is computed of a recording once, and stored."""

from typing import NamedTuple

from torch import Tensor


class Analysis(NamedTuple):
    """What the store keeps of a recording.

    Attributes:
        bands: ``(F, T)`` float32, for MFCC the static coefficients.
        level_db: ``(T,)`` float32, energy between 1 and 10 kHz in dB, which finds the loudest window.
    """

    bands: Tensor
    level_db: Tensor
