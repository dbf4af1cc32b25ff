"""A recording as it happens: a bird at a distance, a background, and a recordist's equipment."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from birdclf.audio.aviary.background import decibels, hum, insects, strangers, wind
from birdclf.audio.aviary.grammar import grammar_of
from birdclf.audio.aviary.naming import SAMPLE_RATE_HZ, RecordingName
from birdclf.audio.aviary.recordist import GRID_HZ, recordist_named
from birdclf.audio.aviary.singer import individual, sing
from birdclf.audio.clip import Waveform
from birdclf.randomness import stream

INDIVIDUALS = 6
"""Birds of one species that a recordist has met; recordings of one bird resemble each other."""
SNR_BAND_HZ = (500.0, 12_000.0)
"""Where song and background are compared; below lies the wind, which masks no song."""
_REVERB_S = 0.6

Spectrum = NDArray[np.complex64]


def _air(distance_m: float) -> NDArray[np.float64]:
    """Gain at ``GRID_HZ``: air and leaves swallow high frequencies, about 3 dB at 4 kHz over 50 m."""
    loss_db = distance_m * 0.0038 * (GRID_HZ / 1000) ** 2
    return np.asarray(10 ** (-np.minimum(loss_db, 60) / 20), dtype=np.float64)


def _echo(distance_m: float, size: int, rng: np.random.Generator) -> Spectrum:
    """Spectrum of the direct sound and its echoes, which grow with the distance."""
    samples = int(_REVERB_S * SAMPLE_RATE_HZ)
    decay_s = rng.uniform(0.04, 0.12) * (1 + distance_m / 60)
    response = rng.standard_normal(samples, dtype=np.float32)
    response *= np.exp(np.arange(samples, dtype=np.float32) * np.float32(-1 / (decay_s * SAMPLE_RATE_HZ)))
    response *= np.float32(min(1.2, distance_m / 60)) / np.linalg.norm(response)
    response[0] = 1.0
    return np.asarray(fft.rfft(response, size), dtype=np.complex64)


def _power(spectrum: Spectrum, hz: NDArray[np.float64]) -> float:
    low, high = np.searchsorted(hz, SNR_BAND_HZ)
    band = spectrum[low:high].view(np.float32)
    return float(np.dot(band, band))


def render(name: RecordingName, snr_db: tuple[float, float]) -> Waveform:
    """Render a recording, a pure function of its name and the range of signal-to-noise ratios.

    The signal-to-noise ratio is drawn uniformly in dB: power of the song while the bird is heard over the
    power of all else, both between 500 Hz and 12 kHz as the microphone delivers them.

    Args:
        name: Which recording.
        snr_db: Lowest and highest signal-to-noise ratio in dB.

    Returns:
        ``(samples,)`` mono float32 at 32 kHz in [-1, 1].
    """
    rng = stream("aviary", "recording", name)
    samples = round(name.duration_s * SAMPLE_RATE_HZ)
    size = fft.next_fast_len(samples + int(_REVERB_S * SAMPLE_RATE_HZ), real=True)
    hz = np.linspace(0, SAMPLE_RATE_HZ / 2, size // 2 + 1)
    equipment = recordist_named(name.recordist)

    def filtered(sound: Waveform, gain: NDArray[np.float64]) -> Spectrum:
        shape = np.interp(hz, GRID_HZ, gain * equipment.colour).astype(np.float32)
        return np.asarray(fft.rfft(sound, size), dtype=np.complex64) * shape

    grammar = grammar_of(name.species)
    bird = individual(grammar, stream("aviary", "individual", name.species, name.recordist, rng.integers(INDIVIDUALS)))
    song, heard = sing(grammar, bird, samples, rng)
    distance_m = float(np.exp(rng.uniform(np.log(4), np.log(70))))
    signal = filtered(song, _air(distance_m)) * _echo(distance_m, size, rng)

    level_db = rng.uniform(-12, 18)
    around = decibels(level_db) * wind(samples, rng)
    if rng.random() < 0.3:
        around += decibels(rng.uniform(-20, 0)) * insects(samples, rng)
    if rng.random() < 0.2:
        around += decibels(rng.uniform(-10, 10)) * hum(samples, rng)
    hiss = rng.standard_normal(samples, dtype=np.float32)
    noise = filtered(around, np.ones_like(GRID_HZ)) + filtered(hiss, equipment.noise)
    if rng.random() < 0.5:
        others = filtered(strangers(samples, rng), _air(rng.uniform(30, 120)))
        share = 10 ** (rng.uniform(-15, 3) / 10) * _power(noise, hz) / max(_power(others, hz), 1e-9)
        noise += np.float32(np.sqrt(share)) * others

    # Both powers are means over time: of the song over the samples in which it is heard.
    ratio = _power(noise, hz) / samples * heard / max(_power(signal, hz), 1e-9)
    mixed = fft.irfft(decibels(rng.uniform(*snr_db)) * np.float32(np.sqrt(ratio)) * signal + noise, size)[:samples]
    peak = np.float32(np.exp(rng.uniform(np.log(0.05), np.log(0.95))))
    return np.asarray(mixed * (peak / np.abs(mixed).max()), dtype=np.float32)
