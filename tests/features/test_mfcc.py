import math
import subprocess
import sys
from pathlib import Path
from tempfile import SpooledTemporaryFile

import librosa
import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st

from birdclf.audio.clip import Clip
from birdclf.audio.files import FileReader
from birdclf.audio.formats import is_sound
from birdclf.audio.resampling import read_waveform
from birdclf.errors import UserError
from birdclf.features import mel
from birdclf.features.mfcc import MFCCStack

RATE = 32_000
WINDOW = 5 * RATE
RECORDINGS = Path(__file__).resolve().parents[2].parent / "shared" / "recordings"


def noise(samples: int = WINDOW, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def analyse(sound: np.ndarray, **settings) -> np.ndarray:
    return MFCCStack(**settings).analyse(torch.from_numpy(sound)).bands.numpy()


def of_librosa(sound: np.ndarray) -> np.ndarray:
    mfcc = librosa.feature.mfcc(y=sound, sr=RATE, n_mfcc=20, n_fft=1024, hop_length=320, n_mels=128)
    return mfcc[:, : len(sound) // 320]


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)  # dB; the values are tens to hundreds


@pytest.mark.parametrize("samples", [WINDOW, WINDOW + 12_345])
def test_noise_agrees_with_librosa(samples):
    assert_close(analyse(noise(samples)), of_librosa(noise(samples)))


def test_sound_over_many_orders_of_magnitude_agrees_with_librosa():
    envelope = np.repeat(np.random.default_rng(1).random(50) ** 8, WINDOW // 50).astype(np.float32)
    sound = noise(level=1.0) * envelope
    assert np.abs(analyse(sound) - analyse(sound, top_db=200.0)).max() > 10  # top_db is at work
    assert_close(analyse(sound), of_librosa(sound))


def test_a_peak_at_the_very_end_agrees_with_librosa():
    sound = noise(level=1e-4)
    sound[-100:] = noise(100, level=1.0)  # the frame that holds it is cropped, the floor below it is not
    assert_close(analyse(sound), of_librosa(sound))


def test_real_recordings_agree_with_librosa():
    files = sorted(path for path in RECORDINGS.rglob("*") if is_sound(path))
    if not files:
        pytest.skip("no real recordings at ../shared/recordings")
    for path in files[:: max(1, len(files) // 5)]:
        sound = read_waveform(FileReader(), Clip(path.name, str(path), end_s=8.0), RATE)
        if len(sound) < WINDOW:
            sound = np.tile(sound, math.ceil(WINDOW / len(sound)))[:WINDOW]
        assert_close(analyse(sound), of_librosa(sound))


@given(
    st.integers(1, 3 * WINDOW), st.lists(st.integers(0, 3 * WINDOW), max_size=9), st.sampled_from(["repeat", "silence"])
)
def test_blocks_give_what_the_whole_gives(samples, cuts, padding):
    stack, sound = MFCCStack(padding=padding), torch.from_numpy(noise(samples))
    whole = stack.analyse(sound)
    parts = list(stack.analyse_blocks(iter(torch.tensor_split(sound, sorted(cuts)))))
    assert_close(torch.cat([part.bands for part in parts], dim=1).numpy(), whole.bands.numpy())
    assert_close(torch.cat([part.level_db for part in parts]).numpy(), whole.level_db.numpy())


def test_blocks_agree_with_librosa():
    sound = noise(4 * WINDOW, level=1.0) * np.linspace(1e-5, 1, 4 * WINDOW, dtype=np.float32)  # the peak comes last
    parts = MFCCStack().analyse_blocks(torch.from_numpy(sound).split(70_001))
    assert_close(torch.cat([part.bands for part in parts], dim=1).numpy(), of_librosa(sound))


def test_a_long_recording_spills_to_disk_and_has_the_same_values(monkeypatch):
    rolled = []

    class Spool(SpooledTemporaryFile):
        def rollover(self) -> None:
            rolled.append(self.tell())
            super().rollover()

    monkeypatch.setattr(mel, "SpooledTemporaryFile", Spool)
    usual = analyse(noise(4 * WINDOW))
    assert not rolled
    monkeypatch.setattr(mel, "IN_MEMORY", 300_000)
    np.testing.assert_array_equal(analyse(noise(4 * WINDOW)), usual)
    assert len(rolled) == 1


LONG = """
import re, sys
from pathlib import Path
import torch
from birdclf.features.mfcc import MFCCStack

def high_mb(minutes):
    blocks = (torch.randn(320_000) for _ in range(6 * minutes))
    frames = sum(len(part.level_db) for part in MFCCStack().analyse_blocks(blocks))
    assert frames == minutes * 6_000, frames
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

torch.set_num_threads(1)
print(high_mb(1), high_mb(30))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.slow
def test_half_an_hour_takes_no_more_memory_than_a_spool():
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    minute_mb, half_hour_mb = map(float, done.stdout.split())
    # Its waveform alone would take 220 MB, its mel spectrogram 88 MB.
    assert half_hour_mb - minute_mb < 2 * mel.IN_MEMORY / 2**20


@pytest.mark.parametrize("settings", [{}, {"n_fft": 512}, {"n_fft": 512, "n_mels": 40}, {"n_fft": 2048, "hop": 640}])
def test_mel_power_is_that_of_torchaudio(settings):
    stack, sound = MFCCStack(**settings), torch.from_numpy(noise(WINDOW + 300))
    ours = torch.cat([power[:, :-1] for power in stack._powers([sound])])
    theirs = torchaudio.transforms.MelSpectrogram(
        RATE, stack.n_fft, hop_length=stack.hop, n_mels=stack.settings["n_mels"], pad_mode="constant",
        norm="slaney", mel_scale="slaney",
    )  # fmt: skip
    torch.testing.assert_close(ours, theirs(sound).T, atol=1e-8, rtol=1e-4)


@pytest.mark.parametrize("width", [5, 9, 15])
def test_deltas_agree_with_librosa(width):
    stack = MFCCStack(delta_width=width)
    bands = torch.from_numpy(np.random.default_rng(2).normal(0, 30, (2, 20, 500)).astype(np.float32))
    out = stack.stack(bands).numpy()
    assert out.shape == (2, 3, 20, 500)
    np.testing.assert_array_equal(out[:, 0], bands.numpy())
    for order in (1, 2):
        theirs = librosa.feature.delta(bands.numpy(), width=width, order=order, mode="nearest")
        np.testing.assert_allclose(out[:, order], theirs, rtol=1e-3, atol=1e-3)


def test_deltas_of_a_line_and_a_parabola():
    t = torch.arange(500.0)
    out = MFCCStack().stack(torch.stack([3 * t, 0.5 * t**2]).repeat(10, 1)[None])[0, :, :, 4:-4]
    torch.testing.assert_close(out[1, 0], torch.full((492,), 3.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[2, 0], torch.zeros(492), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[2, 1], torch.ones(492), atol=2e-2, rtol=0)  # float32 of values up to 125,000


@pytest.mark.parametrize(
    ("samples", "frames"),
    [
        (1, 500),
        (RATE, 500),
        (WINDOW - 1, 500),
        (WINDOW, 500),
        (WINDOW + 319, 500),
        (WINDOW + 320, 501),
        (7 * RATE, 700),
    ],
)
def test_the_number_of_frames(samples, frames):
    stack = MFCCStack()
    result = stack.analyse(torch.from_numpy(noise(samples)))
    assert result.bands.shape == (20, frames) and result.level_db.shape == (frames,)
    assert result.bands.dtype == result.level_db.dtype == torch.float32
    assert stack.shape == (3, 20, 500) and stack.frames == 500


def test_padding_repeats_the_waveform():
    short = noise(50_000)
    np.testing.assert_array_equal(analyse(short, padding="repeat"), analyse(np.tile(short, 4)[:WINDOW]))


def test_padding_with_silence_is_silence():
    short = noise(50_000)
    padded = analyse(short, padding="silence")
    np.testing.assert_array_equal(padded, analyse(np.concatenate([short, np.zeros(WINDOW - 50_000, np.float32)])))
    assert padded[0, 200:].max() < padded[0, :150].min() - 100  # far below, not at the average
    np.testing.assert_allclose(padded[:, 200:300], padded[:, 300:400], atol=1e-4)
    assert not np.allclose(padded, analyse(short, padding="repeat"), atol=1)


def test_sound_as_long_as_a_window_is_not_padded():
    np.testing.assert_array_equal(analyse(noise(), padding="silence"), analyse(noise(), padding="repeat"))


def test_top_db_clips_relative_to_the_peak():
    sound = noise(level=1.0)
    sound[WINDOW // 2 :] *= 1e-6  # 120 dB lower
    low, high = (analyse(sound, top_db=top_db)[0, 300:].mean() for top_db in (80.0, 60.0))
    assert high - low == pytest.approx(20 * math.sqrt(128), rel=1e-3)  # the first DCT row is 1/sqrt(n_mels)


def test_digital_silence_stays_finite():
    result = MFCCStack().analyse(torch.zeros(WINDOW))
    assert result.bands.isfinite().all() and result.level_db.isfinite().all()


def test_the_level_covers_1_to_10_khz_only():
    t = np.arange(RATE) / RATE
    stack = MFCCStack(window_s=1.0)
    level = {
        hz: float(stack.analyse(torch.from_numpy(np.sin(2 * np.pi * hz * t).astype(np.float32))).level_db[50])
        for hz in (300, 2000, 5000, 9000, 14_000)
    }
    heard = [level[hz] for hz in (2000, 5000, 9000)]
    assert min(heard) > max(level[300], level[14_000]) + 20


ACTS = {
    "sample_rate_hz": 16_000,
    "window_s": 2.0,
    "hop": 160,
    "n_fft": 2048,
    "n_mels": 64,
    "n_mfcc": 13,
    "top_db": 20.0,
    "channels": ["delta2", "static", "delta"],
    "delta_width": 5,
    "padding": "silence",
}


def features_of(stack: MFCCStack) -> torch.Tensor:
    sound = noise(3 * RATE) * np.linspace(0, 1, 3 * RATE, dtype=np.float32)
    return stack(stack.analyse(torch.from_numpy(sound)).bands[None, :, : stack.frames])


@pytest.fixture(scope="module")
def usual() -> tuple[MFCCStack, torch.Tensor]:
    stack = MFCCStack()
    return stack, features_of(stack)


def test_the_table_below_names_every_setting():
    assert ACTS.keys() == MFCCStack().settings.keys()


@pytest.mark.parametrize(("name", "value"), ACTS.items())
def test_every_setting_acts(usual, name, value):
    stack = MFCCStack(**{name: value})
    other = features_of(stack)
    assert other.shape == (1, *stack.shape)
    assert other.shape != usual[1].shape or (other - usual[1]).abs().max() > 0.1
    # deltas are computed on the batch, so they do not decide what is stored
    assert (stack.fingerprint() != usual[0].fingerprint()) == (name not in ("channels", "delta_width"))


def test_the_settings_make_the_same_module_again():
    stack = MFCCStack(**{**ACTS, "hop": 320})
    again = MFCCStack(**stack.settings)
    assert again.settings == stack.settings and again.fingerprint() == stack.fingerprint()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample_rate_hz", 0),
        ("sample_rate_hz", -32_000),
        ("hop", 0),
        ("hop", -320),
        ("window_s", 0.0),
        ("window_s", -5.0),
        ("window_s", 5.005),
        ("window_s", math.nan),
        ("window_s", math.inf),
        ("n_fft", 256),
        ("n_fft", 0),
        ("n_mels", 0),
        ("n_mels", 19),
        ("n_mfcc", 0),
        ("n_mfcc", 129),
        ("top_db", 0.0),
        ("top_db", -80.0),
        ("top_db", math.nan),
        ("delta_width", 3),
        ("delta_width", 8),
        ("delta_width", -9),
        ("padding", "reflect"),
    ],
)
def test_bad_values_are_refused(name, value):
    with pytest.raises(UserError, match=r"features\..*must be"):
        MFCCStack(**{name: value})


def windows(n: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    scale = torch.linspace(0.1, 60, 20)[:, None]
    return torch.randn(n, 20, 500, generator=generator) * scale - 5 * scale


def test_fit_gives_mean_0_and_deviation_1():
    stack = MFCCStack()
    bands = windows()
    stack.fit(bands.split(7))
    out = stack(bands)
    torch.testing.assert_close(out.mean(dim=(0, 3)), torch.zeros(3, 20), atol=1e-3, rtol=0)
    torch.testing.assert_close(out.std(dim=(0, 3), correction=0), torch.ones(3, 20), atol=1e-3, rtol=0)
    assert stack.mean.shape == stack.std.shape == (3, 20, 1)


def test_fit_does_not_depend_on_batches():
    one, many = MFCCStack(), MFCCStack()
    one.fit([windows()])
    many.fit(windows().split(3))
    torch.testing.assert_close(one.mean, many.mean)
    torch.testing.assert_close(one.std, many.std)


def test_fit_of_constant_features_stays_finite():
    stack = MFCCStack()
    stack.fit([torch.full((4, 20, 500), -700.0)])
    assert stack(torch.full((4, 20, 500), -700.0)).abs().max() < 1


def test_fit_without_a_window_is_an_error():
    with pytest.raises(ValueError, match="no window"):
        MFCCStack().fit([])


def test_normalisation_travels_with_the_state():
    stack, other = MFCCStack(), MFCCStack()
    stack.fit([windows()])
    other.load_state_dict(stack.state_dict())
    torch.testing.assert_close(other(windows()), stack(windows()), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_type_comes_out_as_float32(dtype):
    stack = MFCCStack()
    bands = windows(2).to(dtype)
    out = stack(bands)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, stack(bands.float()), rtol=0, atol=0)


def test_autocast_does_not_coarsen_the_deltas():
    stack = MFCCStack()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = stack(windows(2))
    torch.testing.assert_close(out, stack(windows(2)), rtol=0, atol=0)


@pytest.mark.parametrize("n_mfcc", [1, 20, 128])
def test_power_of_mel_bands_and_back(n_mfcc):
    stack, generator = MFCCStack(n_mfcc=n_mfcc), torch.Generator().manual_seed(4)
    bands = 100 * torch.randn(2, n_mfcc, 500, generator=generator)
    db = stack.to_db(bands)
    assert db.shape == (2, 128, 500)
    torch.testing.assert_close(stack.from_db(db), bands, rtol=1e-5, atol=5e-3)
    # what is kept of any spectrum is its nearest one of that smoothness: a second time changes nothing
    torch.testing.assert_close(stack.to_db(stack.from_db(db)), db, rtol=1e-5, atol=5e-3)


def test_all_coefficients_give_the_mel_spectrum_itself():
    stack, sound = MFCCStack(n_mfcc=128, top_db=200.0), torch.from_numpy(noise())
    power = torch.cat([power[:, :-1] for power in stack._powers([sound])])
    db = stack.to_db(stack.analyse(sound).bands)
    torch.testing.assert_close(db, 10 * power[:-1].clamp_min(1e-10).log10().T, rtol=1e-4, atol=1e-3)


def test_a_tone_is_loudest_where_the_axis_says():
    stack = MFCCStack(n_mfcc=128)
    assert stack.centres_hz.shape == (128,) and (stack.centres_hz.diff() > 0).all()
    for hz in (500, 2_000, 9_000):
        tone = torch.sin(2 * torch.pi * hz * torch.arange(WINDOW) / RATE)
        loudest = stack.to_db(stack.analyse(tone).bands).mean(dim=1).argmax()
        assert abs(stack.centres_hz[loudest] / hz - 1) < 0.05
    assert set(stack.state_dict()) == {"mean", "std"}
