"""Soundscapes: minutes in which several species sing at known times, amid wind, insects, other birds and silence."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from birdclf.audio.aviary.grammar import grammar_of
from birdclf.audio.aviary.naming import SAMPLE_RATE_HZ, slug_of
from birdclf.audio.aviary.scene import (
    GRID_HZ,
    Recordist,
    Scene,
    decibels,
    hum,
    insects,
    peak_gain,
    recordist_named,
    resident,
    sing,
    strangers,
    wind,
)
from birdclf.audio.clip import Waveform
from birdclf.random import stream

SEGMENT_S: Final = 5.0
MIN_OVERLAP_S: Final = 0.25
"""A species is heard in a segment when an annotation overlaps it by this time."""
MARGIN_S: Final = 0.125
"""Annotations begin before the first syllable and end after the last one by this time, so none is below 0.25 s."""
JOINED_S: Final = 1.0
"""Syllables with a shorter pause between them share an annotation."""
BOUT_S: Final = (2.5, 20.0)
SITE_SPECIES: Final = (8, 15)
_TAIL = int(0.4 * SAMPLE_RATE_HZ)  # of a bout, for its reverberation
_MOST_REFUSALS = 2000


@dataclass(frozen=True)
class SoundscapeSettings:
    """Contents of soundscapes.

    Attributes:
        species: Species and their recordings in the catalog; the more, the more often a species is at a site.
        seed: Soundscapes of another seed have other sites.
        minutes: Length of each.
        empty: Share of the segments of 5 s in which no species is heard.
        overlap: Share of the segments in which two or more species are heard, at most ``1 - empty``.
        snr_db: Lowest and highest signal-to-noise ratio of a bout in dB.
    """

    species: tuple[tuple[str, int], ...]
    seed: int = 0
    minutes: float = 5.0
    empty: float = 0.5
    overlap: float = 0.1
    snr_db: tuple[float, float] = (0.0, 24.0)

    def site(self, number: int) -> str:
        """Return the name of a soundscape's site, which is also that of its recordist."""
        return f"s{self.seed:04d}-{number:04d}"


@dataclass(frozen=True, slots=True)
class Heard:
    """Annotation of the time in which a species is heard, and of its frequencies."""

    start_s: float
    end_s: float
    low_hz: float
    high_hz: float
    species: str


@dataclass(frozen=True, slots=True)
class Bout:
    """Songs of one bird, ``samples`` long at 32 kHz from sample ``start``."""

    site: str
    number: int  # of the bout at its site
    species: str
    start: int
    samples: int

    def song(self) -> tuple[Waveform, list[tuple[int, int]]]:
        """Return the song ``(samples,)``, without the distance, and first and last sample of each syllable in it."""
        rng = stream("aviary", "bout", self.site, self.number)
        slug = slug_of(self.species)
        length = self.samples - _TAIL
        song, notes = sing(grammar_of(slug), resident(slug, self.site, rng), length, rng)
        song[-320:] *= np.linspace(1, 0, 320, dtype=np.float32)  # the last syllable is cut off without a click
        return np.pad(song, (0, _TAIL)), notes

    def heard(self) -> list[Heard]:
        """Return the annotations of the bout."""
        song, notes = self.song()
        joined = [list(notes[0])]
        for start, end in notes[1:]:
            if start - joined[-1][1] < JOINED_S * SAMPLE_RATE_HZ:
                joined[-1][1] = end
            else:
                joined.append([start, end])
        return [
            Heard(
                max(0.0, (self.start + start) / SAMPLE_RATE_HZ - MARGIN_S),
                (self.start + end) / SAMPLE_RATE_HZ + MARGIN_S,
                *_frequencies(song[start:end]),
                self.species,
            )
            for start, end in joined
        ]


def _frequencies(song: Waveform) -> tuple[float, float]:
    """Return the frequencies in Hz between which 98 % of the energy lies."""
    energy = np.cumsum(np.abs(np.fft.rfft(song)) ** 2)
    low, high = np.searchsorted(energy, np.array([0.01, 0.99]) * energy[-1])
    step_hz = SAMPLE_RATE_HZ / len(song)
    return float(low * step_hz), float(high * step_hz)


def plan(settings: SoundscapeSettings, number: int) -> tuple[list[Bout], list[Heard]]:
    """Return the bouts of a soundscape and its annotations in order of time, without rendering it.

    Bouts are drawn at random and kept where they leave enough segments empty and with a single species. A silence of
    half the empty time is kept free of them. The species of a site are drawn with the square root of their counts.
    """
    site = settings.site(number)
    rng = stream("aviary", "soundscape", site)
    weights = np.sqrt([count for _, count in settings.species])
    low, high = SITE_SPECIES
    size = min(int(rng.integers(low, high + 1)), len(weights))
    present = rng.choice(len(weights), size=size, replace=False, p=weights / weights.sum())

    seconds = settings.minutes * 60
    segments = max(1, round(seconds / SEGMENT_S))
    most_filled = round((1 - settings.empty) * segments)
    most_shared = min(most_filled, round(settings.overlap * segments))
    silent = np.zeros(segments, dtype=bool)
    silence = (segments - most_filled) // 2
    begins = int(rng.integers(segments - silence + 1))
    silent[begins : begins + silence] = True

    holds = np.zeros((size, segments), dtype=bool)
    bouts: list[Bout] = []
    found: list[Heard] = []
    refusals = 0
    while refusals < _MOST_REFUSALS and (holds.any(0).sum() < most_filled or (holds.sum(0) > 1).sum() < most_shared):
        length_s = min(seconds, float(np.exp(rng.uniform(*np.log(BOUT_S)))))
        start_s = rng.uniform(0, seconds - length_s)
        bird = int(rng.integers(size))
        spans = _segments(start_s - MARGIN_S, start_s + length_s, segments, 0.0)
        sung = holds.sum(0)
        sung[spans] += 1
        refusals += 1
        if holds[bird, spans].any() or silent[spans].any():
            continue
        if (sung > 0).sum() > most_filled or (sung > 1).sum() > most_shared:
            continue
        species = settings.species[present[bird]][0]
        length = int(length_s * SAMPLE_RATE_HZ)
        bouts.append(Bout(site, len(bouts), species, int(start_s * SAMPLE_RATE_HZ), length))
        heard = bouts[-1].heard()
        found += heard
        for one in heard:  # rests of the bird leave segments of its bout empty
            holds[bird, _segments(one.start_s, one.end_s, segments, MIN_OVERLAP_S)] = True
        refusals = 0
    return bouts, sorted(found, key=lambda one: one.start_s)


def _segments(start_s: float, end_s: float, segments: int, overlap_s: float) -> slice:
    """Return the segments that an interval overlaps by more than a time."""
    first = int((start_s + overlap_s) // SEGMENT_S)
    return slice(max(0, first), min(segments, int((end_s - overlap_s) // SEGMENT_S) + 1))


def render_soundscape(settings: SoundscapeSettings, number: int) -> tuple[Waveform, list[Heard]]:
    """Render a soundscape, a pure function of its settings and number.

    Returns:
        ``(samples,)`` mono float32 at 32 kHz in [-1, 1], and its annotations in order of time.
    """
    bouts, heard = plan(settings, number)
    samples = round(settings.minutes * 60 * SAMPLE_RATE_HZ)
    site = settings.site(number)
    equipment = recordist_named(site)
    rng = stream("aviary", "surroundings", site)
    out = _surroundings(samples, equipment, site, rng)
    for start, length in _now_and_then(samples, (3, 15), rng):
        scene = Scene(length, equipment)
        others = scene.from_afar(strangers(length, rng), rng.uniform(30, 120))
        noise = scene.power(scene.spectrum(out[start : start + length]))
        share = 10 ** (rng.uniform(-20, -3) / 10) * noise / max(scene.power(others), 1e-9)
        out[start : start + length] += scene.waveform(np.float32(np.sqrt(share)) * others)

    second = Scene(SAMPLE_RATE_HZ, equipment)
    noise_powers = np.array(
        [second.power(second.spectrum(out[a : a + SAMPLE_RATE_HZ])) for a in range(0, samples, SAMPLE_RATE_HZ)]
    ) / (second.size * SAMPLE_RATE_HZ)
    for bout in bouts:
        rng = stream("aviary", "sung", site, bout.number)
        song, notes = bout.song()
        scene = Scene(bout.samples, equipment)
        signal = scene.song(song, rng)
        power = scene.power(signal) / (scene.size * sum(end - start for start, end in notes))
        end = bout.start + bout.samples
        around = noise_powers[bout.start // SAMPLE_RATE_HZ : -(-end // SAMPLE_RATE_HZ)].mean()
        level = decibels(rng.uniform(*settings.snr_db)) * np.float32(np.sqrt(around / max(power, 1e-15)))
        out[bout.start : end] += scene.waveform(level * signal)
    out *= peak_gain(out, stream("aviary", "peak", site))
    return out, heard


BACKGROUND_S: Final = (10.0, 30.0)


def background_name(seed: int, number: int) -> str:
    """Return the name of a recording without birds, which is also that of its recordist."""
    return f"b{seed:04d}-{number:04d}"


def render_background(seed: int, number: int) -> Waveform:
    """Render a recording of 10 to 30 s without any bird, ``(samples,)`` mono float32 at 32 kHz in [-1, 1]."""
    site = background_name(seed, number)
    rng = stream("aviary", "surroundings", site)
    samples = int(rng.uniform(*BACKGROUND_S) * SAMPLE_RATE_HZ)
    out = _surroundings(samples, recordist_named(site), site, rng)
    out *= peak_gain(out, rng)
    return out


_BLOCK = 20 * SAMPLE_RATE_HZ  # whole seconds, so that the hum of all blocks is in phase
_FADE = 2 * SAMPLE_RATE_HZ


def _surroundings(samples: int, equipment: Recordist, site: str, rng: np.random.Generator) -> Waveform:
    """Return ``(samples,)`` of wind, insects, hum and hiss, rendered in blocks of 20 s."""
    out = np.zeros(samples, dtype=np.float32)
    wind_db = rng.uniform(-12, 18)
    hum_db = rng.uniform(-10, 10) if rng.random() < 0.2 else None
    scene = Scene(_BLOCK + _FADE, equipment)
    for start in range(0, samples, _BLOCK):
        around = decibels(wind_db + rng.normal(0, 3)) * wind(scene.samples, rng)
        noise = scene.waveform(scene.filtered(around) + scene.hiss(rng))
        # The power of two independent noises is constant when each fades like a sine.
        noise[-_FADE:] *= _rise(_FADE)[::-1]
        if start:
            noise[:_FADE] *= _rise(_FADE)
        out[start : start + scene.samples] += noise[: samples - start]
        if hum_db is not None:
            level = decibels(hum_db) * np.float32(np.interp(55, GRID_HZ, equipment.colour))
            part = out[start : start + _BLOCK]
            part += level * hum(len(part), stream("aviary", "hum", site))
    for start, length in _now_and_then(samples, (8, 40), rng):
        chorus = decibels(rng.uniform(-20, 0)) * insects(length, rng)
        fade = min(_FADE, length // 2)
        chorus[:fade] *= _rise(fade)
        chorus[-fade:] *= _rise(fade)[::-1]
        scene = Scene(length, equipment)
        out[start : start + length] += scene.waveform(scene.filtered(chorus))
    return out


def _rise(samples: int) -> NDArray[np.float32]:
    return np.sin(np.linspace(0, np.pi / 2, samples, dtype=np.float32))


def _now_and_then(samples: int, seconds: tuple[float, float], rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield start and length, in samples, of sounds that occur once a minute on average."""
    for _ in range(rng.poisson(samples / SAMPLE_RATE_HZ / 60)):
        length = min(samples, int(rng.uniform(*seconds) * SAMPLE_RATE_HZ))
        yield int(rng.integers(samples - length + 1)), length
