"""One bird sings: a species' grammar with an individual's pitch, tempo and favourite songs."""

from dataclasses import dataclass

import numpy as np

from birdclf.audio.aviary.grammar import Grammar, Song
from birdclf.audio.aviary.naming import SAMPLE_RATE_HZ
from birdclf.audio.aviary.syllables import voice
from birdclf.audio.clip import Waveform

PITCH_SD = 0.08
TEMPO_SD = 0.12
ACCENT_SD = 0.04
CALL_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Individual:
    """How one bird differs from its species.

    Attributes:
        pitch: Factor on every frequency.
        tempo: Factor on every rate.
        accents: ``(pitch, tempo)`` factors of each syllable.
        repertoire: Numbers of the songs that this bird sings.
    """

    pitch: float
    tempo: float
    accents: tuple[tuple[float, float], ...]
    repertoire: tuple[int, ...]


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


def sing(grammar: Grammar, bird: Individual, samples: int, rng: np.random.Generator) -> tuple[Waveform, int]:
    """Sing songs, or calls, with rests until the recording is full.

    Args:
        grammar: What the species sings.
        bird: Who sings.
        samples: Length of the recording at 32 kHz.
        rng: Choices of this recording.

    Returns:
        ``(samples,)`` float32, silent in the rests, and the number of samples in which the bird is heard.
    """
    out = np.zeros(samples, dtype=np.float32)
    calling = rng.random() < CALL_SHARE
    choices: list[Song] = list(grammar.calls) if calling else [grammar.songs[i] for i in bird.repertoire]
    rest_s = grammar.rest_s * (0.6 if calling else 1.0) / bird.tempo
    rendered: dict[int, Waveform] = {}
    heard = 0
    at = int(rng.uniform(0, 0.8) * SAMPLE_RATE_HZ)
    while at < samples:
        for note in choices[int(rng.integers(len(choices)))]:
            if note.syllable not in rendered:
                pitch, tempo = bird.accents[note.syllable]
                own = grammar.syllables[note.syllable].shifted(pitch * bird.pitch, tempo * bird.tempo)
                rendered[note.syllable] = voice(own, rng)
            sound = rendered[note.syllable][: max(0, samples - at)]
            out[at : at + len(sound)] += np.float32(note.level * rng.uniform(0.8, 1.0)) * sound
            heard += len(sound)
            at += len(rendered[note.syllable]) + int(note.pause_s / bird.tempo * SAMPLE_RATE_HZ)
            if at >= samples:
                break
        at += int(rest_s * rng.uniform(0.5, 1.6) * SAMPLE_RATE_HZ)
    return out, heard
