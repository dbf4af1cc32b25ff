"""A folder of good recordings among which one of each fault is planted, and what an audit has to say of every one."""

import os
import struct
from pathlib import Path

import numpy as np
import soundfile
from tiny_runs import sing

RATE = 32_000
GOOD = 8  # of each species
SPECIES = ("Alauda arvensis", "Bubo bubo", "Corvus corax")
ODD_NAMES = ("two words", "a,b", "a=b", "it's", 'say "hi"', "Müller–Ö", "line\nbreak", "100% #1; [x]{y}")

Expected = dict[str, tuple[str, set[str]]]


def plant(root: Path) -> Expected:
    """Write ``root/<species>/...`` and return verdict and problems of each recording."""
    rng = np.random.default_rng(11)

    def song(kind: int = 2, seconds: float = 1.5, rate: int = RATE) -> np.ndarray:
        return sing(kind, rng, seconds, rate)

    for kind, species in enumerate(SPECIES):
        (root / species).mkdir(parents=True)
        for n in range(GOOD):
            soundfile.write(root / species / f"good {n}.wav", song(kind), RATE)
    expected: Expected = {f"{species}/good {n}.wav": ("ok", set()) for species in SPECIES for n in range(GOOD)}
    here = root / SPECIES[2]

    def add(name: str, sound: np.ndarray, *problems: str, verdict: str = "", rate: int = RATE, subtype=None) -> Path:
        soundfile.write(here / name, sound, rate, subtype=subtype)
        expected[f"{here.name}/{name}"] = (verdict or ("warn" if problems else "ok"), set(problems))
        return here / name

    def reject(name: str, sound: np.ndarray, problem: str, subtype: str | None = None) -> Path:
        return add(name, sound, problem, verdict="reject", subtype=subtype)

    for name in ODD_NAMES:
        add(f"{name}.wav", song())
    add("24 bit.wav", song(), subtype="PCM_24")
    add("float.wav", song(), subtype="FLOAT")
    add("six channels.wav", song()[:, None] * np.linspace(0.5, 1, 6))
    add("vorbis.ogg", song())

    # headers
    mp3 = add("cut.mp3", song(seconds=4.0), "header_lies")
    os.truncate(mp3, mp3.stat().st_size // 2)
    wav = add("cut.wav", song(seconds=4.0), "header_lies")
    os.truncate(wav, wav.stat().st_size // 2)
    wav = add("claims more.wav", song(), "header_lies")
    claimed = add("streamed.wav", song())
    for path, size in ((wav, 6 * RATE * 2), (claimed, 2**32 - 1)):
        content = path.read_bytes()
        path.write_bytes(content[:40] + struct.pack("<I", size) + content[44:])

    # nothing to hear
    (here / "text.wav").write_text("This is no sound.\n" * 50)
    (here / "zero bytes.mp3").touch()
    (here / "loop.wav").symlink_to("loop.wav")
    (here / "loop").symlink_to(root)
    expected |= {
        f"{here.name}/{name}": ("reject", {"undecodable"}) for name in ("text.wav", "zero bytes.mp3", "loop.wav")
    }
    flac = reject("cut.flac", song(seconds=4.0), "undecodable")
    os.truncate(flac, flac.stat().st_size // 2)
    reject("header only.wav", np.zeros(0), "empty")
    reject("zeros.wav", np.zeros(RATE), "silent")
    reject("zeros again.wav", np.zeros(RATE), "silent")
    for name, value in (("not a number.wav", np.nan), ("infinite.wav", np.inf)):
        broken = song()
        broken[-1] = value
        reject(name, broken, "not_finite", subtype="FLOAT")
    reject("short.wav", song(seconds=0.2), "too_short")

    # doubtful sound
    add("8 kHz.flac", song(rate=8_000), "low_rate", rate=8_000)
    add("narrow.wav", 0.3 * np.sin(2 * np.pi * 1_000 * np.arange(2 * RATE) / RATE), "narrow_band", subtype="FLOAT")
    left = song()
    add("opposite phase.wav", np.stack([left, -left], axis=1), "out_of_phase")
    add("clipped.wav", np.clip(8 * song(), -1, 1), "clipped")
    add("offset.wav", song() + 0.1, "dc")
    add("quiet.wav", 0.004 * song(), "quiet", subtype="PCM_24")
    add("mostly silent.wav", np.concatenate([song(), np.zeros(3 * RATE)]), "mostly_silent")
    add("quiet offset.wav", 0.5 * song(rate=8_000) + 0.1, "dc", "low_rate", rate=8_000)

    # repeats; the first by id stays
    once = np.round(song() * 32_767).astype(np.int16)
    add("repeat 0.wav", once)
    reject("repeat 1.wav", once, "duplicate")
    reject("repeat 2.flac", once, "duplicate")
    twice = np.round(song() * 32_767).astype(np.int16)
    reject("contested.wav", twice, "conflicting_duplicate")
    soundfile.write(root / SPECIES[0] / "claimed.flac", twice, RATE)
    expected[f"{SPECIES[0]}/claimed.flac"] = ("reject", {"conflicting_duplicate"})
    return expected
