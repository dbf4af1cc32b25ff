"""What is heard beside the bird: wind, insects, mains hum, and birds of other species."""

import numpy as np
from numpy.typing import NDArray

from birdclf.audio.aviary.grammar import grammar_of
from birdclf.audio.aviary.naming import SAMPLE_RATE_HZ
from birdclf.audio.aviary.singer import individual, sing
from birdclf.audio.clip import Waveform

NUM_STRANGERS = 48
"""Species of the neighbourhood that no catalog lists."""
_WIND_STEP = 32  # samples a step: wind has nothing above 500 Hz


def decibels(level_db: float) -> np.float32:
    """Return the amplitude factor of a level in dB."""
    return np.float32(10 ** (level_db / 20))


def _stretched(values: NDArray[np.float32], step: int, samples: int) -> Waveform:
    stretched = np.interp(np.arange(samples) / step, np.arange(len(values)), values)
    return np.asarray(stretched, dtype=np.float32)


def wind(samples: int, rng: np.random.Generator) -> Waveform:
    """Return ``(samples,)`` float32 of low noise that comes in gusts, power about 1."""
    gusts = np.abs(rng.standard_normal(samples // SAMPLE_RATE_HZ + 3)).astype(np.float32)
    steps = rng.standard_normal(samples // _WIND_STEP + 2, dtype=np.float32)
    steps[1:] = 0.5 * (steps[1:] + steps[:-1])  # falls off towards 500 Hz
    steps *= 2 * _stretched(gusts, SAMPLE_RATE_HZ // _WIND_STEP, len(steps))
    return _stretched(steps, _WIND_STEP, samples)


def insects(samples: int, rng: np.random.Generator) -> Waveform:
    """Return ``(samples,)`` float32 of a cricket's or cicada's pulsed high tone, power about 1."""
    hz, beat_hz, chirp_hz = rng.uniform(3500, 9000), rng.uniform(25, 90), rng.uniform(0.8, 4)
    radians = np.arange(samples) * (2 * np.pi / SAMPLE_RATE_HZ)
    pulses = 0.5 - 0.5 * np.cos(beat_hz * radians)
    if rng.random() < 0.6:
        pulses *= np.clip(0.4 + 2 * np.sin(chirp_hz * radians + rng.uniform(0, 6)), 0, 1)
    wobble = rng.uniform(0.5, 12) * np.sin(rng.uniform(20, 60) * radians)
    return np.asarray(2.5 * pulses * np.cos(hz * radians + wobble), dtype=np.float32)


def hum(samples: int, rng: np.random.Generator) -> Waveform:
    """Return ``(samples,)`` float32 of mains hum with its odd harmonics, power about 1."""
    mains = np.cos(np.arange(samples) * (2 * np.pi * rng.choice([50.0, 60.0]) / SAMPLE_RATE_HZ)).astype(np.float32)
    third = mains * (4 * mains * mains - 3)
    return np.asarray(1.2 * mains + np.float32(rng.uniform(0.1, 0.8)) * third, dtype=np.float32)


def strangers(samples: int, rng: np.random.Generator) -> Waveform:
    """Return ``(samples,)`` float32 of another species' song, amplitude about 1."""
    grammar = grammar_of(f"stranger{rng.integers(NUM_STRANGERS):02d}")
    return sing(grammar, individual(grammar, rng), samples, rng)[0]
