import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from birdclf.features.spectrum import CHUNK_FRAMES, frame_chunks, pad_short

SAMPLES = 2000
cuts = st.lists(st.integers(0, SAMPLES), max_size=12)


def numbered(samples: int) -> torch.Tensor:
    return torch.arange(1.0, samples + 1)


def pieces(waveform: torch.Tensor, at: list[int]) -> list[torch.Tensor]:
    return list(torch.tensor_split(waveform, sorted(at)))


def frames_of(stretches: list[torch.Tensor], n_fft: int, hop: int) -> torch.Tensor:
    return torch.cat([stretch.unfold(0, n_fft, hop) for stretch in stretches])


@given(st.integers(1, SAMPLES), st.integers(1, 70), st.integers(1, 70), cuts)
def test_frames_are_those_of_the_padded_waveform(samples, one, other, at):
    hop, n_fft = sorted((one, other))
    wave = numbered(samples)
    frames = frames_of(list(frame_chunks(pieces(wave, at), n_fft, hop)), n_fft, hop)
    whole = functional.pad(wave, (n_fft // 2, n_fft + hop)).unfold(0, n_fft, hop)
    assert len(frames) == samples // hop + 1
    assert torch.equal(frames, whole[: len(frames)])


@given(st.integers(1, SAMPLES), st.integers(1, 70), st.integers(1, 70), cuts)
def test_frames_that_are_not_centred_begin_with_the_first_sample(samples, one, other, at):
    hop, n_fft = sorted((one, other))
    wave = numbered(samples)
    stretches = list(frame_chunks(pieces(wave, at), n_fft, hop, centred=False))
    frames = frames_of(stretches, n_fft, hop) if stretches else torch.empty(0, n_fft)
    whole = functional.pad(wave, (0, n_fft + hop)).unfold(0, n_fft, hop)
    assert len(frames) == samples // hop
    assert torch.equal(frames, whole[: len(frames)])


@given(st.integers(1, SAMPLES), st.sampled_from([(64, 20), (64, 64), (32, 17), (128, 1)]), cuts)
def test_spectra_are_those_of_a_centred_transform(samples, sizes, at):
    n_fft, hop = sizes
    wave, window = numbered(samples).sin(), torch.hann_window(n_fft)
    frames = frames_of(list(frame_chunks(pieces(wave, at), n_fft, hop)), n_fft, hop)
    whole = torch.stft(wave, n_fft, hop, window=window, center=True, pad_mode="constant", return_complex=True)
    torch.testing.assert_close(torch.fft.rfft(frames * window), whole.T, atol=1e-4, rtol=0)


def test_stretches_are_short_however_long_the_waveform():
    stretches = list(frame_chunks([numbered(100_000)], 64, 16))
    assert len(stretches) > 20
    assert max(len(stretch) for stretch in stretches) == (CHUNK_FRAMES - 1) * 16 + 64


@pytest.mark.parametrize(("samples", "hop", "frames"), [(1, 32, 1), (31, 32, 1), (32, 32, 2), (250, 320, 1), (1, 1, 2)])
def test_a_very_short_waveform_has_its_frames(samples, hop, frames):
    n_fft = max(64, hop)
    ours = frames_of(list(frame_chunks([numbered(samples)], n_fft, hop)), n_fft, hop)
    assert ours.shape == (frames, n_fft)
    first = min(samples, n_fft // 2)
    assert ours[0, n_fft // 2 :][:first].tolist() == numbered(first).tolist()
    assert ours[0].count_nonzero() == first


@given(st.integers(1, SAMPLES), st.integers(1, SAMPLES), cuts)
def test_repeating_fills_a_short_waveform(samples, least, at):
    wave = numbered(samples)
    padded = torch.cat(list(pad_short(pieces(wave, at), least, "repeat")))
    np.testing.assert_array_equal(padded, np.resize(wave.numpy(), max(samples, least)))


@given(st.integers(1, SAMPLES), st.integers(1, SAMPLES), cuts)
def test_silence_fills_a_short_waveform(samples, least, at):
    wave = numbered(samples)
    padded = torch.cat(list(pad_short(pieces(wave, at), least, "silence")))
    np.testing.assert_array_equal(padded, np.pad(wave.numpy(), (0, max(0, least - samples))))


def test_a_long_waveform_is_passed_on_as_it_comes():
    blocks = iter([numbered(600), numbered(500), numbered(400)])
    padded = pad_short(blocks, 1000, "repeat")
    assert len(next(padded)) == 1100 and len(next(blocks)) == 400  # the third block was not asked for yet
