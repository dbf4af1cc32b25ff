"""Random numbers that depend on names and numbers only, never on the order of the calls."""

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def key_of(*parts: object) -> int:
    """Return a 64-bit key for a tuple of names and numbers, the same on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def stream(*parts: object) -> np.random.Generator:
    """Return an independent generator for a tuple of names and numbers."""
    return np.random.Generator(np.random.PCG64(key_of(*parts)))


def uniform(key: int, draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return one number in [0, 1) for each draw, a pure function of key and draw.

    A counter-based generator (SplitMix64: Steele, Lea and Flood, 2014, figure 16), so that a draw does
    not depend on which worker, batch or process asks for it.

    Args:
        key: 64-bit key of the stream, from :func:`key_of`.
        draws: ``(n,)`` numbers of the draws, not negative.

    Returns:
        ``(n,)`` float64 in [0, 1).
    """
    with np.errstate(over="ignore"):
        z = np.uint64(key) + (draws.astype(np.uint64) + np.uint64(1)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
