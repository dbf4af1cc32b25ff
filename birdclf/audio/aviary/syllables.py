"""Six kinds of syllable, synthesised by one model: a gliding tone with overtones, noise and pulses."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from birdclf.audio.aviary.naming import SAMPLE_RATE_HZ
from birdclf.audio.clip import Waveform

LOWEST_HZ, HIGHEST_HZ, OVERTONE_LIMIT_HZ = 350.0, 10_000.0, 15_000.0
_BREATH_STEP = 12  # samples per step of the noise, which widens the tone by about 1.3 kHz on each side


@dataclass(frozen=True, slots=True)
class Syllable:
    """Parameters of one syllable."""

    duration_s: float
    start_hz: float
    end_hz: float
    bend: float = 0.0  # octaves by which the middle lies above the straight line from start to end
    vibrato_hz: float = 0.0  # rate of the frequency modulation
    vibrato_octaves: float = 0.0  # depth of the frequency modulation, in octaves to each side
    pulse_hz: float = 0.0  # rate of the amplitude pulses; 0 for a continuous tone
    sharpness: float = 1.0  # exponent that shortens the pulses; 1 is a raised cosine
    overtones: tuple[float, ...] = (1.0,)  # amplitudes of the harmonics, the fundamental first
    breath: float = 0.0  # share of noise in the tone, from 0 to 1
    attack: float = 0.15  # share of the length taken by the onset, from 0 to 1

    def shifted(self, pitch: float, tempo: float) -> "Syllable":
        """Return the syllable with all frequencies times ``pitch`` and all rates times ``tempo``."""
        return replace(
            self,
            duration_s=self.duration_s / tempo,
            start_hz=self.start_hz * pitch,
            end_hz=self.end_hz * pitch,
            vibrato_hz=self.vibrato_hz * tempo,
            pulse_hz=self.pulse_hz * tempo,
        )


def voice(syllable: Syllable, rng: np.random.Generator) -> Waveform:
    """Return the waveform of a syllable, ``(samples,)`` float32 at 32 kHz, amplitude about 1."""
    n = max(32, round(syllable.duration_s * SAMPLE_RATE_HZ))
    share = np.arange(n) / n
    seconds = np.arange(n) / SAMPLE_RATE_HZ
    low, high = np.log2(syllable.start_hz), np.log2(syllable.end_hz)
    octaves = low + (high - low + 4 * syllable.bend) * share - 4 * syllable.bend * share**2
    if syllable.vibrato_octaves:
        octaves += syllable.vibrato_octaves * np.sin(2 * np.pi * syllable.vibrato_hz * seconds)
    hz = np.clip(np.exp2(octaves), LOWEST_HZ, HIGHEST_HZ)
    first = np.cos(np.cumsum(hz) * (2 * np.pi / SAMPLE_RATE_HZ)).astype(np.float32)

    # cos(k x) = 2 cos(x) cos((k-1) x) - cos((k-2) x) gives the overtones without computing another cosine.
    before, current = np.ones_like(first), first
    tone = np.float32(syllable.overtones[0]) * first
    for k, amplitude in enumerate(syllable.overtones[1:], start=2):
        if k * hz.max() > OVERTONE_LIMIT_HZ:
            break
        before, current = current, 2 * first * current - before
        tone += np.float32(amplitude) * current

    if syllable.breath:
        steps = rng.standard_normal(n // _BREATH_STEP + 2)
        noise = np.interp(np.arange(n) / _BREATH_STEP, np.arange(len(steps)), steps).astype(np.float32)
        tone *= np.float32(1 - syllable.breath) + np.float32(syllable.breath) * noise
    envelope = np.minimum(np.minimum(share / syllable.attack, (1 - share) / 0.35), 1.0)
    if syllable.pulse_hz:
        gate = 0.5 - 0.5 * np.cos(2 * np.pi * syllable.pulse_hz * seconds)
        envelope *= gate if syllable.sharpness == 1.0 else gate**syllable.sharpness
    smooth = envelope * envelope * (3 - 2 * envelope)
    return np.asarray(tone * smooth, dtype=np.float32)


def _around(rng: np.random.Generator, register_hz: float, octaves: float) -> float:
    hz = register_hz * 2 ** rng.normal(0, octaves)
    return float(np.clip(hz, 1.3 * LOWEST_HZ, 0.8 * HIGHEST_HZ))


def whistle(rng: np.random.Generator, register_hz: float) -> Syllable:
    """Draw a pure tone, constant or gliding slowly."""
    hz = _around(rng, register_hz, 0.35)
    return Syllable(
        rng.uniform(0.15, 0.5),
        hz,
        hz * 2 ** rng.normal(0, 0.12),
        bend=rng.normal(0, 0.08),
        vibrato_hz=rng.uniform(5, 12),
        vibrato_octaves=rng.choice([0.0, 0.02]),
        overtones=(1.0, rng.uniform(0, 0.2)),
    )


def sweep(rng: np.random.Generator, register_hz: float) -> Syllable:
    """Draw a short steep glide, rising, falling or arched."""
    hz = _around(rng, register_hz, 0.3)
    span = rng.uniform(0.3, 1.2) * rng.choice([-1.0, 1.0])
    return Syllable(
        rng.uniform(0.05, 0.22),
        hz * 2 ** (-span / 2),
        hz * 2 ** (span / 2),
        bend=rng.normal(0, 0.25),
        overtones=(1.0, rng.uniform(0, 0.35)),
        attack=rng.uniform(0.1, 0.4),
    )


def trill(rng: np.random.Generator, register_hz: float) -> Syllable:
    """Draw a run of quick equal notes, each with a glide of its own."""
    hz, rate = _around(rng, register_hz, 0.3), rng.uniform(9, 30)
    return Syllable(
        rng.uniform(0.4, 1.2),
        hz,
        hz * 2 ** rng.normal(0, 0.1),
        vibrato_hz=rate,
        vibrato_octaves=rng.uniform(0.05, 0.4),
        pulse_hz=rate,
        sharpness=rng.uniform(1.0, 2.5),
        overtones=(1.0, rng.uniform(0, 0.25)),
        attack=rng.uniform(0.1, 0.6),
    )


def buzz(rng: np.random.Generator, register_hz: float) -> Syllable:
    """Draw a noisy tone with an amplitude modulation too fast to count by ear."""
    hz = _around(rng, register_hz, 0.25)
    return Syllable(
        rng.uniform(0.15, 0.7),
        hz,
        hz * 2 ** rng.normal(0, 0.2),
        pulse_hz=rng.uniform(40, 140),
        breath=rng.uniform(0.4, 0.9),
        overtones=(1.0, rng.uniform(0, 0.4)),
    )


def harmonic_stack(rng: np.random.Generator, register_hz: float) -> Syllable:
    """Draw a nasal call: a low tone with overtones stronger than itself."""
    hz = _around(rng, register_hz / rng.uniform(2.0, 4.0), 0.2)
    overtones = tuple(float(a) for a in rng.dirichlet(np.full(6, 1.5)) * 2)
    return Syllable(
        rng.uniform(0.06, 0.35),
        hz,
        hz * 2 ** rng.normal(0, 0.25),
        bend=rng.normal(0, 0.2),
        overtones=overtones,
        breath=rng.uniform(0, 0.25),
    )


def clicks(rng: np.random.Generator, register_hz: float) -> Syllable:
    """Draw a rattle: a series of short broadband pulses."""
    hz = _around(rng, register_hz, 0.3)
    return Syllable(
        rng.uniform(0.2, 0.8),
        hz,
        hz * 2 ** rng.normal(0, 0.15),
        pulse_hz=rng.uniform(12, 35),
        sharpness=rng.uniform(8, 20),
        breath=rng.uniform(0.6, 0.95),
        overtones=(1.0, 0.5),
        attack=0.05,
    )


Kind = Callable[[np.random.Generator, float], Syllable]
KINDS: tuple[Kind, ...] = (whistle, sweep, trill, buzz, harmonic_stack, clicks)
