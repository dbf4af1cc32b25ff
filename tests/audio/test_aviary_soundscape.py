"""Soundscapes of the aviary: annotations that fit the sound, shares of segments, and background without birds."""

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from birdclf.audio.aviary import soundscape
from birdclf.audio.aviary.soundscape import (
    Heard,
    SoundscapeSettings,
    background_name,
    plan,
    render_background,
    render_soundscape,
)
from birdclf.data.sources.synthetic import study_counts

RATE = 32_000
SPECIES = study_counts()[::3]
"""30 species, from 1,216 recordings to a few."""


def species_per_segment(heard: list[Heard], segments: int) -> np.ndarray:
    """Return ``(segments,)`` numbers of species that overlap a segment of 5 s by 0.25 s or more."""
    held: list[set[str]] = [set() for _ in range(segments)]
    for one in heard:
        for i in range(segments):
            if min(one.end_s, 5 * i + 5) - max(one.start_s, 5 * i) >= 0.25:
                held[i].add(one.species)
    return np.array([len(names) for names in held])


@pytest.fixture(scope="module")
def hour() -> list[list[Heard]]:
    return [plan(SoundscapeSettings(SPECIES), number)[1] for number in range(12)]


def test_half_of_an_hours_segments_are_empty_and_a_tenth_hold_several_species(hour: list[list[Heard]]) -> None:
    held = np.concatenate([species_per_segment(heard, 60) for heard in hour])
    assert len(held) == 720
    assert (held == 0).mean() == pytest.approx(0.5, abs=0.03)
    assert (held >= 2).mean() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("empty", "overlap"),
    [(0.2, 0.4), (0.9, 0.05), (0.0, 0.1), pytest.param(0.4, 0.6, marks=pytest.mark.slow), (1.0, 0.0)],
)
def test_other_shares_are_kept(empty: float, overlap: float) -> None:
    settings = SoundscapeSettings(SPECIES, empty=empty, overlap=overlap)
    held = np.concatenate([species_per_segment(plan(settings, number)[1], 60) for number in range(2)])
    assert (held == 0).mean() == pytest.approx(empty, abs=0.05)
    assert (held >= 2).mean() == pytest.approx(overlap, abs=0.05)


def test_there_is_a_long_silence(hour: list[list[Heard]]) -> None:
    for heard in hour:
        singing = np.flatnonzero(np.concatenate([[1], species_per_segment(heard, 60), [1]]))
        assert 5 * (np.diff(singing).max() - 1) >= 60


def test_frequent_species_sing_more_and_rare_ones_occur(hour: list[list[Heard]]) -> None:
    sites = [{one.species for one in heard} for heard in hour]
    times = [sum(name in site for site in sites) for name, _ in SPECIES]
    assert sum(times[:10]) > 1.3 * sum(times[-10:])
    assert sum(times[-10:]) >= 10
    assert all(4 <= len(site) <= 15 for site in sites) and len({frozenset(site) for site in sites}) == 12


def test_annotations_are_long_enough_to_count_within_the_recording_and_apart(hour: list[list[Heard]]) -> None:
    for heard in hour:
        assert [one.start_s for one in heard] == sorted(one.start_s for one in heard)
        for one in heard:
            assert 0 <= one.start_s <= one.end_s - 0.25 and one.end_s <= 300
            assert 20 < one.low_hz < one.high_hz <= 16_000
        for name in {one.species for one in heard}:
            own = [one for one in heard if one.species == name]
            assert all(a.end_s < b.start_s for a, b in zip(own, own[1:], strict=False))


def band_power(sound: np.ndarray, frame: int = 320) -> np.ndarray:
    """Return the power between 500 Hz and 12 kHz of each 10 ms."""
    band = sosfilt(butter(8, (500, 12_000), "bandpass", fs=RATE, output="sos"), sound.astype(float))
    return (band[: len(band) // frame * frame].reshape(-1, frame) ** 2).mean(1)


def test_annotations_begin_and_end_where_the_birds_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundscape, "strangers", lambda samples, rng: np.zeros(samples, np.float32))
    monkeypatch.setattr(soundscape, "insects", lambda samples, rng: np.zeros(samples, np.float32))
    settings = SoundscapeSettings(SPECIES, seed=5, minutes=2, empty=0.6, overlap=0, snr_db=(40, 40))
    sound, heard = render_soundscape(settings, 0)
    power = band_power(sound)
    at = (np.arange(len(power)) + 0.5) / 100
    inside, reverberating = (np.zeros(len(power), bool) for _ in range(2))
    for one in heard:
        inside |= (at >= one.start_s) & (at < one.end_s)
        reverberating |= (at >= one.end_s) & (at < one.end_s + 0.6)
    quiet = ~inside & ~reverberating
    loud = power > 10 * np.median(power[quiet])
    assert len(heard) > 5 and loud[quiet].mean() < 0.01
    for one in heard:
        times = at[loud & (at >= one.start_s) & (at < one.end_s)]
        assert times[0] - one.start_s < 0.3 and one.end_s - times[-1] < 0.3
        assert np.diff(times).max(initial=0) < 1.3


def test_the_signal_to_noise_ratio_is_that_of_the_syllables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundscape, "strangers", lambda samples, rng: np.zeros(samples, np.float32))
    settings = SoundscapeSettings(SPECIES, minutes=2, overlap=0, snr_db=(20, 20))
    bouts, heard = plan(settings, 1)
    power = band_power(render_soundscape(settings, 1)[0])
    at = (np.arange(len(power)) + 0.5) / 100
    quiet = np.all([(at < one.start_s) | (at > one.end_s + 0.6) for one in heard], axis=0)
    measured = []
    for bout in bouts:
        frames = np.zeros(len(power), bool)
        for start, end in bout.song()[1]:
            frames[(bout.start + start) // 320 : -(-(bout.start + end) // 320)] = True
        measured.append(10 * np.log10(power[frames].mean() / power[quiet].mean()))
    assert len(measured) > 4 and measured == pytest.approx([20] * len(measured), abs=1)


def test_a_soundscape_depends_on_its_seed_and_number() -> None:
    settings = SoundscapeSettings(SPECIES, minutes=0.5)
    sound, heard = render_soundscape(settings, 3)
    again, heard_again = render_soundscape(settings, 3)
    np.testing.assert_array_equal(sound, again)
    assert heard == heard_again
    assert sound.dtype == np.float32 and sound.shape == (960_000,)
    assert np.isfinite(sound).all() and 0.04 < np.abs(sound).max() <= 1
    for other in (render_soundscape(settings, 4), render_soundscape(SoundscapeSettings(SPECIES, 1, 0.5), 3)):
        assert abs(np.corrcoef(sound, other[0])[0, 1]) < 0.2 and other[1] != heard


def test_sites_and_backgrounds_have_names_that_no_recordist_of_the_catalog_has() -> None:
    names = {SoundscapeSettings(SPECIES, seed).site(n) for seed in (0, 1, 11) for n in (0, 1, 11)}
    names |= {background_name(seed, n) for seed in (0, 1, 11) for n in (0, 1, 11)}
    assert len(names) == 18 and not any(name.startswith("r") for name in names)


def test_the_level_of_the_hiss_is_the_same_within_and_between_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("insects", "strangers", "wind"):
        monkeypatch.setattr(soundscape, name, lambda samples, rng: np.zeros(samples, np.float32))
    sound, heard = render_soundscape(SoundscapeSettings(SPECIES, 2, minutes=1.5, empty=1, overlap=0), 0)
    assert not heard
    assert np.ptp(10 * np.log10(band_power(sound, frame=RATE // 2))) < 1


def test_background_holds_no_bird(monkeypatch: pytest.MonkeyPatch) -> None:
    def sings(*_: object) -> None:
        raise AssertionError("a bird sings")

    for name in ("sing", "strangers", "resident"):
        monkeypatch.setattr(soundscape, name, sings)
    sounds = [render_background(0, number) for number in range(4)]
    for sound in sounds:
        assert sound.dtype == np.float32 and 10 * RATE <= len(sound) <= 30 * RATE
        assert np.isfinite(sound).all() and 0.04 < np.abs(sound).max() <= 1
    assert len({len(sound) for sound in sounds}) == 4
    np.testing.assert_array_equal(sounds[2], render_background(0, 2))
    assert len(render_background(1, 2)) != len(sounds[2])
