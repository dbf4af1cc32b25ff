"""What acts on the power of mel bands does what a filter, an amplifier or a second source does to the sound."""

import numpy as np
import pytest
import torch
from batches import EXACT, NOW, augmented_bands, batch, chain, power_of
from scipy import signal

from birdclf.augment.gain import Gain
from birdclf.augment.lowpass import LowPass
from birdclf.augment.noise import Background, Noise
from birdclf.augment.spectrum import Spectrum
from birdclf.errors import UserError
from birdclf.features.mfcc import MFCCStack

RATE_HZ = 32_000
WIDTH = torch.gradient(EXACT.centres_hz.double())[0]
AREA = EXACT.banks[:, : len(WIDTH)].sum(dim=0).double()  # what a band holds of white noise


def level_db(power: torch.Tensor) -> torch.Tensor:
    """Return the level of windows ``(B,)``, of power ``(B, M, T)``: density times width, summed."""
    return 10 * torch.log10((power.mean(dim=2) / AREA * WIDTH).sum(dim=1))


def sound(seed: int, seconds: float = 5.0) -> np.ndarray:
    """Return a sweep from 1 to 8 kHz over white noise 30 dB below it."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    rng = np.random.default_rng(seed)
    sweep = signal.chirp(t, 1000 * (1 + seed % 3), seconds, 8000)
    return sweep + np.sqrt(0.5e-3) * rng.standard_normal(len(t))


def analysed(*waves: np.ndarray) -> torch.Tensor:
    return torch.stack([EXACT.analyse(torch.from_numpy(wave).float()).bands for wave in waves])


def coloured(exponent: float, seed: int) -> np.ndarray:
    """Return 5 s of noise of unit power whose power a Hz falls as ``f ** -exponent``, from the first band on."""
    n = 5 * RATE_HZ
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    hz = np.fft.rfftfreq(n, 1 / RATE_HZ)
    spectrum *= np.maximum(hz, 1.0) ** (-exponent / 2) * (hz > 30)
    noise = np.fft.irfft(spectrum, n)
    return noise / np.sqrt(np.mean(noise**2))


def test_a_click_shows_what_bands_hold_of_white_noise():
    found = 10 * torch.log10(Spectrum(EXACT).white.double() / AREA)
    assert found.max() - found.min() < 0.05


@pytest.mark.parametrize("gain", [-7.5, 4.0])
def test_gain_moves_every_band_by_what_it_says(gain):
    bands = batch()[0].float()
    out = augmented_bands(chain(Gain(1.0, gain, gain)), bands)
    torch.testing.assert_close(EXACT.to_db(out), EXACT.to_db(bands) + gain, atol=1e-3, rtol=0)


def test_gain_is_that_of_an_amplifier():
    wave = sound(1)
    out = augmented_bands(chain(Gain(1.0, 6.0, 6.0)), analysed(wave))
    torch.testing.assert_close(out, analysed(wave * 10 ** (6 / 20)), atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("snr", [-3.0, 6.0, 20.0])
@pytest.mark.parametrize("exponent", [-1.0, 0.0, 1.0, 2.0])
def test_noise_has_the_ratio_and_the_colour_it_says(snr, exponent):
    bands = batch()[0].float()
    before, after = power_of(bands), power_of(augmented_bands(chain(Noise(1.0, snr, snr, exponent, exponent)), bands))
    noise = after - before
    measured = level_db(before) - level_db(noise)
    assert (measured - snr).abs().max() < 0.1
    # At the quietest frame of each band, where float32 loses least of the noise.
    least = before.argmin(dim=2, keepdim=True)
    profile = 10 * torch.log10(noise.gather(2, least)[:, :, 0] / AREA)
    octaves = torch.log2(EXACT.centres_hz.double())
    slope = np.polyfit(octaves.numpy(), profile.mean(dim=0).numpy(), 1)[0]
    assert slope == pytest.approx(-exponent * 10 * np.log10(2), abs=0.05)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_noise_is_that_of_a_sound(exponent):
    """The expected power, band by band, against sixteen draws of noise that are added to the waveform."""
    wave = sound(2)
    scale = np.sqrt(np.mean(wave**2) / 10 ** (10 / 10))
    out = augmented_bands(chain(Noise(1.0, 10.0, 10.0, exponent, exponent)), analysed(wave))
    noisy = analysed(*(wave + scale * coloured(exponent, seed) for seed in range(16)))
    expected, found = (10 * torch.log10(power_of(x).mean(dim=(0, 2))) for x in (noisy, out))
    heard = EXACT.centres_hz > 300  # below, a frame of 32 ms resolves no band
    assert (expected - found)[heard].abs().max() < 1.0
    assert (expected - found)[heard].mean().abs() < 0.3


@pytest.mark.parametrize("snr", [0.0, 12.0])
def test_a_background_has_the_ratio_it_says(snr):
    bands = batch()[0].float()
    before, after = power_of(bands), power_of(augmented_bands(chain(Background(1.0, snr, snr)), bands))
    assert (level_db(before) - level_db(after - before) - snr).abs().max() < 0.1
    # What was added has the shape of another window, and of no window itself.
    added = (after - before).flatten(1)
    likeness = torch.nn.functional.cosine_similarity(added[:, None], before.flatten(1)[None], dim=2)
    assert (likeness.argmax(dim=1) != torch.arange(8)).all() and (likeness.amax(dim=1) > 0.99).all()


def test_a_background_is_that_of_two_sounds():
    """Cross terms vary with the phase and vanish on average: compared by band, over time."""
    one, other = sound(0), np.roll(sound(4)[::-1], 9000)
    out = augmented_bands(chain(Background(1.0, 0.0, 0.0), batch_size=2), analysed(one, other))
    expected, found = (10 * torch.log10(power_of(x).mean(dim=2)) for x in (analysed(one + other), out[:1]))
    assert (expected - found).abs().mean() < 0.6 and (expected - found).mean().abs() < 0.2


@pytest.mark.parametrize("slope", [6.0, 12.0, 24.0])
def test_a_low_pass_attenuates_as_it_says(slope):
    bands = EXACT.from_db(torch.randn(4, 64, 100, generator=torch.Generator().manual_seed(1)))
    out = augmented_bands(chain(LowPass(1.0, 2000.0, 2000.0, slope)), bands)
    lost = (EXACT.to_db(bands) - EXACT.to_db(out)).mean(dim=(0, 2))

    def at(hz: float) -> float:
        return float(np.interp(np.log(hz), EXACT.centres_hz.log().numpy(), lost.numpy()))

    assert at(2000) == pytest.approx(10 * np.log10(2), abs=0.15)
    assert at(16000 / 1.1) - at(8000 / 1.1) == pytest.approx(slope, abs=0.6)
    assert at(250) < 0.1 if slope > 6 else at(250) < 0.3


def test_a_low_pass_is_that_of_a_filter():
    noise = coloured(0.0, 1)
    hz = np.fft.rfftfreq(len(noise), 1 / RATE_HZ)
    _, response = signal.freqs(*signal.butter(2, 2 * np.pi * 3000, analog=True), worN=2 * np.pi * hz)
    filtered = np.fft.irfft(np.fft.rfft(noise) * np.abs(response), len(noise))
    out = augmented_bands(chain(LowPass(1.0, 3000.0, 3000.0, 12.0)), analysed(noise))
    expected, found = (10 * torch.log10(power_of(x).mean(dim=2)) for x in (analysed(filtered), out))
    assert (expected - found)[0].abs().max() < 0.5


def test_a_low_pass_stops_at_the_floor_of_the_features():
    bands = batch()[0].float()
    out = EXACT.to_db(augmented_bands(chain(LowPass(1.0, 500.0, 500.0, 96.0)), bands))
    assert (out.amin(dim=(1, 2)) - (out.amax(dim=(1, 2)) - 80).clamp_min(-100)).abs().max() < 1e-2


def test_cut_offs_are_uniform_in_octaves():
    bands = torch.zeros(4000, 64, 1)
    link = LowPass(1.0, 500.0, 8000.0, 96.0)
    link.bind(EXACT, torch.ones(2))
    out = link(bands.clone(), np.arange(4000), np.random.default_rng(1), bands, EXACT)
    passed = (out[:, :, 0] > -3).sum(dim=1)
    cutoff = EXACT.centres_hz[passed.clamp_max(63)]
    assert abs(float((cutoff < 2000).float().mean()) - 0.5) < 0.05


def test_the_order_of_the_chain_is_that_of_sound_whatever_the_list():
    bands, target = batch()
    links = [LowPass(1.0), Background(1.0), Noise(1.0), Gain(1.0)]
    ways = [chain(*order)(bands, target, EXACT, NOW)[0] for order in (links, links[::-1])]
    assert torch.equal(*ways)
    assert list(chain(*links[::-1]).links) == ["lowpass", "background", "noise", "gain"]


def test_detail_beyond_the_kept_coefficients_is_not_seen():
    """Of MFCC the smooth spectrum alone is filtered: what comes back has as many coefficients as before."""
    mfcc = MFCCStack()
    bands, target = batch(features=mfcc)
    assert torch.allclose(mfcc.from_db(mfcc.to_db(bands)), bands.float(), atol=1e-3)
    x, _ = chain(Gain(1.0, 3.0, 3.0), features=mfcc)(bands, target, mfcc, NOW)
    torch.testing.assert_close(x[:, 0, 1:], mfcc(bands)[:, 0, 1:], atol=2e-3, rtol=1e-4)
    assert torch.allclose(x[:, 0, 0] - mfcc(bands)[:, 0, 0], torch.tensor(3.0 * 128**0.5), atol=1e-2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Gain(min_db=3, max_db=-3), "augment.gain.min_db is 3; it must be at most max_db=-3"),
        (lambda: Gain(min_db=0, max_db=0), "augment.gain.max_db is 0"),
        (lambda: Gain(max_db=100), "between -60 and 60"),
        (lambda: Noise(min_snr_db=50), "augment.noise.min_snr_db is 50; it must be at most max_snr_db=30"),
        (lambda: Noise(max_exponent=3), "augment.noise.max_exponent is 3"),
        (lambda: Background(max_snr_db=float("inf")), "augment.background.max_snr_db is inf"),
        (lambda: chain(Background(), batch_size=1), "augment.background mixes recordings of a batch"),
        (lambda: LowPass(min_cutoff_hz=0), "augment.lowpass.min_cutoff_hz is 0"),
        (lambda: LowPass(slope_db=0), "augment.lowpass.slope_db is 0; it must be above 0"),
        (lambda: chain(LowPass(max_cutoff_hz=20_000)), "the highest band of the features"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()
