"""Reader that synthesises a recording instead of decoding it."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from birdclf.audio.aviary.grammar import Grammar, Song, grammar_of
from birdclf.audio.aviary.naming import SAMPLE_RATE_HZ, RecordingName
from birdclf.audio.aviary.syllables import voice
from birdclf.audio.clip import AudioError, Clip, Sound, Waveform
from birdclf.checks import is_number
from birdclf.errors import UserError
from birdclf.random import stream

PITCH_SD = 0.08
TEMPO_SD = 0.12
ACCENT_SD = 0.04
CALL_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Individual:
    """Deviations of one bird from its species."""

    pitch: float  # factor on every frequency
    tempo: float  # factor on every rate
    accents: tuple[tuple[float, float], ...]  # `(pitch, tempo)` factors of each syllable
    repertoire: tuple[int, ...]  # indices of the songs that this bird sings


def individual(grammar: Grammar, rng: np.random.Generator) -> Individual:
    """Draw an individual of a species."""
    accents = np.exp(rng.normal(0, ACCENT_SD, size=(len(grammar.syllables), 2)))
    size = min(len(grammar.songs), int(rng.integers(1, 4)))
    return Individual(
        pitch=2 ** float(rng.normal(0, PITCH_SD)),
        tempo=float(np.exp(rng.normal(0, TEMPO_SD))),
        accents=tuple((float(p), float(t)) for p, t in accents),
        repertoire=tuple(int(i) for i in rng.choice(len(grammar.songs), size=size, replace=False)),
    )


def sing(
    grammar: Grammar, bird: Individual, samples: int, rng: np.random.Generator
) -> tuple[Waveform, list[tuple[int, int]]]:
    """Synthesise songs, or calls, with rests until the recording of ``samples`` at 32 kHz is full.

    Returns:
        ``(samples,)`` float32, silent in the rests, and the first and last sample (exclusive) of each syllable.
    """
    out = np.zeros(samples, dtype=np.float32)
    calling = rng.random() < CALL_SHARE
    choices: list[Song] = list(grammar.calls) if calling else [grammar.songs[i] for i in bird.repertoire]
    rest_s = grammar.rest_s * (0.6 if calling else 1.0) / bird.tempo
    rendered: dict[int, Waveform] = {}
    sung: list[tuple[int, int]] = []
    at = int(rng.uniform(0, 0.8) * SAMPLE_RATE_HZ)
    while at < samples:
        for note in choices[int(rng.integers(len(choices)))]:
            if note.syllable not in rendered:
                pitch, tempo = bird.accents[note.syllable]
                own = grammar.syllables[note.syllable].shifted(pitch * bird.pitch, tempo * bird.tempo)
                rendered[note.syllable] = voice(own, rng)
            sound = rendered[note.syllable][: max(0, samples - at)]
            out[at : at + len(sound)] += np.float32(note.level * rng.uniform(0.8, 1.0)) * sound
            sung.append((at, at + len(sound)))
            at += len(rendered[note.syllable]) + int(note.pause_s / bird.tempo * SAMPLE_RATE_HZ)
            if at >= samples:
                break
        at += int(rest_s * rng.uniform(0.5, 1.6) * SAMPLE_RATE_HZ)
    return out, sung


NUM_STRANGERS = 48
"""Species in the background that no catalog lists."""
_WIND_STEP = 32  # samples a step: wind has nothing above 500 Hz


def decibels(level_db: float) -> np.float32:
    """Return the amplitude factor of a level in dB."""
    return np.float32(10 ** (level_db / 20))


def _stretched(values: NDArray[np.float32], step: int, samples: int) -> Waveform:
    stretched = np.interp(np.arange(samples) / step, np.arange(len(values)), values)
    return np.asarray(stretched, dtype=np.float32)


def wind(samples: int, rng: np.random.Generator) -> Waveform:
    """Return ``(samples,)`` float32 of low-frequency noise in gusts, power about 1."""
    gusts = np.abs(rng.standard_normal(samples // SAMPLE_RATE_HZ + 3)).astype(np.float32)
    steps = rng.standard_normal(samples // _WIND_STEP + 2, dtype=np.float32)
    steps[1:] = 0.5 * (steps[1:] + steps[:-1])  # falls off towards 500 Hz
    steps *= 2 * _stretched(gusts, SAMPLE_RATE_HZ // _WIND_STEP, len(steps))
    return _stretched(steps, _WIND_STEP, samples)


def insects(samples: int, rng: np.random.Generator) -> Waveform:
    """Return ``(samples,)`` float32 of a high pulsed tone like a cricket's or cicada's, power about 1."""
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


GRID_HZ: NDArray[np.float64] = np.concatenate([[0.0], np.geomspace(20, 16_000, 255)])
"""``(256,)`` frequencies in Hz at which every filter of a scene is defined."""


@dataclass(frozen=True, slots=True)
class Recordist:
    """A recordist's equipment."""

    colour: NDArray[np.float64]  # `(256,)` gain of the microphone and the recorder at `GRID_HZ`
    noise: NDArray[np.float64]  # `(256,)` amplitude of their own noise at `GRID_HZ`, about 1 at 1 kHz


@lru_cache(maxsize=2048)
def recordist_named(name: str) -> Recordist:
    """Return the recordist of this name, the same on every call."""
    rng = stream("aviary", "recordist", name)
    octaves = np.log2(np.maximum(GRID_HZ, 20.0) / 1000)
    gain_db = rng.uniform(-1.5, 1.5) * octaves
    for _ in range(3):
        centre, width = rng.uniform(-3, 3.5), rng.uniform(0.4, 1.2)
        gain_db = gain_db + rng.normal(0, 4.0) * np.exp(-0.5 * ((octaves - centre) / width) ** 2)
    low_cut, high_cut = rng.uniform(60, 350), rng.uniform(8_500, 15_500)
    hz = np.maximum(GRID_HZ, 1.0)
    colour = 10 ** (gain_db / 20) / np.sqrt((1 + (low_cut / hz) ** 4) * (1 + (hz / high_cut) ** 12))
    noise = 10 ** (rng.uniform(-4.0, 0.5) * octaves / 20)
    return Recordist(colour, noise)


INDIVIDUALS = 6
"""Individuals of one species for each recordist; recordings of one individual resemble each other."""
SNR_BAND_HZ = (500.0, 12_000.0)
"""Band in which song and background are compared; wind, which masks no song, lies below."""
_REVERB_S = 0.6

Spectrum = NDArray[np.complex64]


def _air(distance_m: float) -> NDArray[np.float64]:
    """Gain at ``GRID_HZ``: air and leaves absorb high frequencies, about 3 dB at 4 kHz over 50 m."""
    loss_db = distance_m * 0.0038 * (GRID_HZ / 1000) ** 2
    return np.asarray(10 ** (-np.minimum(loss_db, 60) / 20), dtype=np.float64)


def _echo(distance_m: float, size: int, rng: np.random.Generator) -> Spectrum:
    """Spectrum of the direct sound and its reverberation, which grows with the distance."""
    samples = int(_REVERB_S * SAMPLE_RATE_HZ)
    decay_s = rng.uniform(0.04, 0.12) * (1 + distance_m / 60)
    response = rng.standard_normal(samples, dtype=np.float32)
    response *= np.exp(np.arange(samples, dtype=np.float32) * np.float32(-1 / (decay_s * SAMPLE_RATE_HZ)))
    response *= np.float32(min(1.2, distance_m / 60)) / np.linalg.norm(response)
    response[0] = 1.0
    return np.asarray(fft.rfft(response, size), dtype=np.complex64)


class Scene:
    """Sounds of one length, as spectra ``(size // 2 + 1,)``, as a recordist's equipment records them.

    Attributes:
        samples: Length of the sounds at 32 kHz.
        size: Length of the Fourier transform, which leaves room for the reverberation.
    """

    def __init__(self, samples: int, equipment: Recordist) -> None:
        self.samples = samples
        self.size = fft.next_fast_len(samples + int(_REVERB_S * SAMPLE_RATE_HZ), real=True)
        self._hz = np.linspace(0, SAMPLE_RATE_HZ / 2, self.size // 2 + 1)
        self._equipment = equipment

    def spectrum(self, sound: Waveform) -> Spectrum:
        """Return the spectrum of a sound ``(samples,)`` as it is."""
        return np.asarray(fft.rfft(sound, self.size), dtype=np.complex64)

    def filtered(self, sound: Waveform, gain: NDArray[np.float64] | float = 1.0) -> Spectrum:
        """Return the spectrum of a sound ``(samples,)`` after a filter ``(256,)`` at ``GRID_HZ`` and the equipment."""
        shape = np.interp(self._hz, GRID_HZ, gain * self._equipment.colour).astype(np.float32)
        return self.spectrum(sound) * shape

    def from_afar(self, sound: Waveform, distance_m: float) -> Spectrum:
        """Return the spectrum of a sound after the air that it crossed."""
        return self.filtered(sound, _air(distance_m))

    def song(self, sound: Waveform, rng: np.random.Generator) -> Spectrum:
        """Return the spectrum of a song with reverberation, sung at a random distance."""
        distance_m = float(np.exp(rng.uniform(np.log(4), np.log(70))))
        return self.from_afar(sound, distance_m) * _echo(distance_m, self.size, rng)

    def hiss(self, rng: np.random.Generator) -> Spectrum:
        """Return the spectrum of the noise of the equipment itself."""
        return self.filtered(rng.standard_normal(self.samples, dtype=np.float32), self._equipment.noise)

    def power(self, spectrum: Spectrum) -> float:
        """Return the power, summed, in the band ``SNR_BAND_HZ``."""
        low, high = np.searchsorted(self._hz, SNR_BAND_HZ)
        band = spectrum[low:high].view(np.float32)
        return float(np.dot(band, band))

    def waveform(self, spectrum: Spectrum) -> Waveform:
        """Return the waveform ``(samples,)`` of a spectrum."""
        return np.asarray(fft.irfft(spectrum, self.size)[: self.samples], dtype=np.float32)


def resident(species: str, recordist: str, rng: np.random.Generator) -> Individual:
    """Return one of the individuals of a species, by its name in recordings' ids, that a recordist meets."""
    return individual(
        grammar_of(species), stream("aviary", "individual", species, recordist, rng.integers(INDIVIDUALS))
    )


def peak_gain(sound: Waveform, rng: np.random.Generator) -> np.float32:
    """Return the factor that brings a recording's peak to a random level, 0.05 to 0.95."""
    peak = np.float32(np.exp(rng.uniform(np.log(0.05), np.log(0.95))))
    return np.float32(peak / max(sound.max(), -sound.min()))


def render(name: RecordingName, snr_db: tuple[float, float]) -> Waveform:
    """Render a recording, a pure function of its name and the range of signal-to-noise ratios.

    The signal-to-noise ratio is uniform in dB between the two limits ``snr_db``: power of the song while the bird sings
    over the power of all else, both between 500 Hz and 12 kHz, after the microphone.

    Returns:
        ``(samples,)`` mono float32 at 32 kHz in [-1, 1].
    """
    rng = stream("aviary", "recording", name)
    samples = round(name.duration_s * SAMPLE_RATE_HZ)
    scene = Scene(samples, recordist_named(name.recordist))

    grammar = grammar_of(name.species)
    song, notes = sing(grammar, resident(name.species, name.recordist, rng), samples, rng)
    signal = scene.song(song, rng)

    level_db = rng.uniform(-12, 18)
    around = decibels(level_db) * wind(samples, rng)
    if rng.random() < 0.3:
        around += decibels(rng.uniform(-20, 0)) * insects(samples, rng)
    if rng.random() < 0.2:
        around += decibels(rng.uniform(-10, 10)) * hum(samples, rng)
    noise = scene.filtered(around) + scene.hiss(rng)
    if rng.random() < 0.5:
        others = scene.from_afar(strangers(samples, rng), rng.uniform(30, 120))
        share = 10 ** (rng.uniform(-15, 3) / 10) * scene.power(noise) / max(scene.power(others), 1e-9)
        noise += np.float32(np.sqrt(share)) * others

    # Both powers are means over time; that of the song is over the samples in which the bird sings.
    sung = sum(end - start for start, end in notes)
    ratio = scene.power(noise) / samples * sung / max(scene.power(signal), 1e-9)
    mixed = scene.waveform(decibels(rng.uniform(*snr_db)) * np.float32(np.sqrt(ratio)) * signal + noise)
    return np.asarray(mixed * peak_gain(mixed, rng), dtype=np.float32)


VERSION = 1
"""To be raised whenever the sound of a recording id changes, so that stored features are built again."""
SNR_LIMITS_DB = (-40.0, 60.0)


@dataclass(frozen=True)
class AviaryReader:
    """Procedural bird song: the waveform depends on the recording id and these settings alone.

    Example:
        >>> read_waveform(AviaryReader(), Clip("house-sparrow_r0007_00001"), 32_000).dtype
        dtype('float32')

    Attributes:
        snr_db: Lowest and highest signal-to-noise ratio of a recording in dB, within [-40, 60].

    Raises:
        UserError: If ``snr_db`` is not two finite numbers in this range in ascending order.
    """

    snr_db: Sequence[float] = (0.0, 24.0)

    def __post_init__(self) -> None:
        given = tuple(self.snr_db) if isinstance(self.snr_db, Sequence) else (self.snr_db,)
        low, high = SNR_LIMITS_DB
        if len(given) != 2 or not all(is_number(v) for v in given) or not low <= given[0] <= given[1] <= high:
            raise UserError(
                f"snr_db is {list(given)}; give two numbers in dB between {low:g} and {high:g}, "
                "the lower one first, for example [0, 24]."
            )
        object.__setattr__(self, "snr_db", (float(given[0]), float(given[1])))

    @contextmanager
    def open(self, clip: Clip) -> Iterator[Sound]:
        """Synthesise a clip: mono at 32 kHz, in [-1, 1].

        Raises:
            AudioError: If the id is not that of a procedural recording or the clip lies outside it.
        """
        whole = render(RecordingName.parse(clip.recording_id), (self.snr_db[0], self.snr_db[1]))
        start = round(clip.start_s * SAMPLE_RATE_HZ)
        end = len(whole) if math.isinf(clip.end_s) else min(len(whole), round(clip.end_s * SAMPLE_RATE_HZ))
        if not 0 <= start < end:
            raise AudioError(
                f"{clip.recording_id}: the interval from {clip.start_s:g} s to {clip.end_s:g} s holds no sound; "
                f"the recording lasts {len(whole) / SAMPLE_RATE_HZ:g} s.",
                "empty",
            )
        samples = np.ascontiguousarray(whole[start:end, None], dtype=np.float32)
        yield Sound(SAMPLE_RATE_HZ, 1, len(samples) / SAMPLE_RATE_HZ, iter([samples]))

    def fingerprint(self) -> str:
        """Return a text that changes whenever a setting changes the sound."""
        return f"aviary {VERSION} snr_db={self.snr_db[0]!r}..{self.snr_db[1]!r}"
