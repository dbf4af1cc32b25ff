import subprocess
import sys

import numpy as np
import pytest
from scipy import fft

from birdclf.audio.aviary.grammar import family_named, grammar_of
from birdclf.audio.aviary.naming import RecordingName, durations_s, family_of, slug_of
from birdclf.audio.aviary.scene import GRID_HZ, AviaryReader, individual, recordist_named, render, sing
from birdclf.audio.aviary.syllables import KINDS, voice
from birdclf.audio.clip import AudioError, Clip
from birdclf.audio.resampling import read_waveform
from birdclf.errors import UserError
from birdclf.random import stream

IDS = [
    "house-sparrow_r0000_00000",
    "house-sparrow_r0001_00001",
    "marsh-wren_r0002_00017",
    "mallard_r0399_00003",
    "black-and-white-warbler_r0012_00099",
]
READER = AviaryReader()


def sound_of(clip: Clip, rate: int = 32_000) -> np.ndarray:
    return read_waveform(READER, clip, rate)


def digest(sound: np.ndarray) -> str:
    import hashlib

    return hashlib.sha256(sound.tobytes()).hexdigest()


def test_sound_depends_on_neither_order_nor_process() -> None:
    there = [digest(sound_of(Clip(i))) for i in IDS]
    back = [digest(sound_of(Clip(i))) for i in reversed(IDS)]
    code = (
        "import hashlib, sys\n"
        "from birdclf.audio.aviary.scene import AviaryReader\n"
        "from birdclf.audio.clip import Clip\n"
        "from birdclf.audio.resampling import read_waveform\n"
        "for i in sys.argv[1:]:\n"
        "    print(hashlib.sha256(read_waveform(AviaryReader(), Clip(i), 32000).tobytes()).hexdigest())"
    )
    fresh = subprocess.run([sys.executable, "-c", code, *IDS[::-1]], capture_output=True, text=True, check=True)
    assert there == back[::-1] == fresh.stdout.split()[::-1]
    assert len(set(there)) == len(IDS)


@pytest.mark.parametrize("recording_id", IDS)
def test_sound_is_finite_bounded_audible_and_as_long_as_the_name_says(recording_id: str) -> None:
    sound = sound_of(Clip(recording_id))
    assert sound.dtype == np.float32 and sound.ndim == 1
    assert np.isfinite(sound).all()
    assert 0.04 < np.abs(sound).max() <= 1
    assert sound.std() > 1e-3
    assert len(sound) == round(RecordingName.parse(recording_id).duration_s * 32_000)


@pytest.mark.parametrize(
    ("recording_id", "samples", "rms"),
    [
        ("house-sparrow_r0000_00000", (-0.02625, -0.26367, -0.00234), 0.091826),
        ("marsh-wren_r0002_00017", (0.00388, 0.00716, -0.00978), 0.032752),
        ("mallard_r0399_00003", (0.01477, -0.00129, -0.02223), 0.039783),
    ],
)
def test_the_sound_of_an_id_never_changes(recording_id: str, samples: tuple[float, ...], rms: float) -> None:
    sound = sound_of(Clip(recording_id))
    assert sound[[1000, 20_000, 50_000]] == pytest.approx(samples, abs=5e-5)
    assert np.sqrt(np.mean(sound.astype(float) ** 2)) == pytest.approx(rms, rel=1e-4)


def test_other_sample_rates_keep_length_and_bounds() -> None:
    name = RecordingName.parse(IDS[0])
    for rate in (8_000, 22_050, 48_000):
        sound = sound_of(Clip(IDS[0]), rate)
        assert sound.dtype == np.float32
        assert len(sound) == pytest.approx(name.duration_s * rate, abs=1)
        assert np.abs(sound).max() <= 1


def test_a_clip_is_a_stretch_of_the_recording() -> None:
    whole = sound_of(Clip(IDS[0]))
    part = sound_of(Clip(IDS[0], start_s=0.5, end_s=1.5))
    np.testing.assert_array_equal(part, whole[16_000:48_000])
    with pytest.raises(AudioError, match="holds no sound"):
        sound_of(Clip(IDS[0], start_s=99.0))


@pytest.mark.parametrize("bad", ["", "house sparrow", "house-sparrow_r1_00001", "House_r0001_00001", "a_r0001_1"])
def test_a_foreign_id_is_refused(bad: str) -> None:
    with pytest.raises(AudioError, match="not a procedural recording"):
        sound_of(Clip(bad))


def test_names_are_parsed_and_written_alike() -> None:
    assert [str(RecordingName.parse(i)) for i in IDS] == IDS
    assert slug_of("Black and White Warbler") == "black-and-white-warbler"
    assert family_of("black-and-white-warbler") == "warbler" and family_of("ovenbird") == "ovenbird"


def test_durations_straddle_a_window() -> None:
    seconds = durations_s("house-sparrow", np.arange(5000))
    assert seconds.min() >= 2 and seconds.max() <= 20
    assert 6 < np.median(seconds) < 7
    assert 0.2 < (seconds < 5).mean() < 0.45


def test_snr_acts_where_the_bird_sings() -> None:
    name = RecordingName.parse(IDS[0])
    clean, noisy = render(name, (60.0, 60.0)), render(name, (-40.0, -40.0))
    # The same song, alone and drowned: what is left at -40 dB is the background and hardly resembles it.
    assert abs(np.corrcoef(clean, noisy)[0, 1]) < 0.1
    mixed = [render(name, (snr, snr)) for snr in (-20.0, 0.0, 20.0)]
    likeness = [np.corrcoef(clean, m)[0, 1] for m in mixed]
    assert likeness[0] < likeness[1] < likeness[2]


@pytest.mark.parametrize(
    "bad", [(10, 0), (0,), (0, 1, 2), (float("nan"), 1), (0, float("inf")), (-41, 0), (0, 61), ("a", "b"), (True, 2), 3]
)
def test_bad_snr_is_refused_with_value_range_and_remedy(bad: object) -> None:
    with pytest.raises(UserError, match=r"snr_db is .*-40 and 60.*for example"):
        AviaryReader(snr_db=bad)  # type: ignore[arg-type]


def test_fingerprint_follows_the_knobs() -> None:
    assert AviaryReader((0, 10)).fingerprint() == AviaryReader([0.0, 10.0]).fingerprint()
    assert AviaryReader((0, 10)).fingerprint() != AviaryReader((0, 11)).fingerprint()


def test_relatives_share_syllables_and_strangers_do_not() -> None:
    pool = family_named("sparrow").pool
    song, vesper, mallard = (grammar_of(s) for s in ("song-sparrow", "vesper-sparrow", "mallard"))

    def nearest(grammar_syllables: tuple, whom: tuple) -> int:
        # A shared syllable is one of the pool with pitch and tempo changed: everything else is equal.
        def traits(s):
            return (s.bend, s.vibrato_octaves, s.sharpness, s.overtones, s.breath)

        return len({traits(s) for s in grammar_syllables} & {traits(s) for s in whom})

    assert nearest(song.syllables, pool) >= song.num_shared >= 2
    assert nearest(vesper.syllables, pool) >= vesper.num_shared >= 2
    assert nearest(mallard.syllables, pool) == 0
    sparrows = [f"{w}-sparrow" for w in ("house", "song", "field", "vesper", "chipping", "savannah")]
    grammars = [grammar_of(s).syllables for s in sparrows]
    assert any(nearest(a, b) for i, a in enumerate(grammars) for b in grammars[i + 1 :])


def test_two_species_differ_in_sound() -> None:
    def spectrum(slug: str) -> np.ndarray:
        rows = []
        for n in range(12):
            rng = stream("test", slug, n)
            sound, _ = sing(grammar_of(slug), individual(grammar_of(slug), rng), 96_000, rng)
            rows.append(np.abs(fft.rfft(sound)).reshape(-1)[:48_000].reshape(100, -1).mean(1))
        return np.array([r / np.linalg.norm(r) for r in rows])

    for one, two in [("house-sparrow", "mallard"), ("blue-jay", "marsh-wren")]:
        a, b = spectrum(one), spectrum(two)
        assert (a @ a.T).mean() > (a @ b.T).mean() + 0.1


@pytest.mark.slow
def test_a_recordists_microphone_colours_all_their_recordings() -> None:
    edges = np.geomspace(1000, 15_000, 20)

    def heard(recordist: str) -> np.ndarray:
        levels = []
        for n in range(16):
            power = np.abs(fft.rfft(render(RecordingName("house-sparrow", recordist, n), (-40.0, -40.0)))) ** 2
            bins = np.searchsorted(np.linspace(0, 16_000, len(power)), edges)
            level = 10 * np.log10([np.median(power[a:b]) for a, b in zip(bins, bins[1:], strict=False)])
            levels.append(level - level.mean())
        return np.median(levels, axis=0)

    def drawn(recordist: str) -> np.ndarray:
        equipment = recordist_named(recordist)
        level = 20 * np.log10(equipment.colour * equipment.noise)
        return np.interp(np.sqrt(edges[1:] * edges[:-1]), GRID_HZ, level)

    for one, two in [("r0007", "r0008"), ("r0001", "r0300")]:
        assert np.corrcoef(heard(one) - heard(two), drawn(one) - drawn(two))[0, 1] > 0.8


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_every_kind_of_syllable_is_finite_and_silent_at_its_ends(kind) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sound = voice(kind(rng, rng.uniform(1500, 6000)), rng)
        assert sound.dtype == np.float32
        assert np.isfinite(sound).all()
        assert 0.05 < np.abs(sound).max() < 12
        assert abs(sound[0]) < 1e-3 and abs(sound[-1]) < 0.05 * np.abs(sound).max()


def test_overtones_do_not_fold_back() -> None:
    rng = np.random.default_rng(0)
    from birdclf.audio.aviary.syllables import Syllable

    sound = voice(Syllable(0.5, 6000, 6000, overtones=(1.0, 1.0, 1.0)), rng)
    power = np.abs(fft.rfft(sound)) ** 2
    hz = np.linspace(0, 16_000, len(power))
    assert power[np.abs(hz - 14_000) < 500].sum() < 1e-6 * power.sum()  # 3 * 6 kHz would fold to 14 kHz
