"""16 bits are taken where the device is fast in them, and evaluation stays in float32."""

import platform

import pytest
import torch

from birdclf.data.dataset import Batch
from birdclf.errors import UserError
from birdclf.features.mfcc import MFCCStack
from birdclf.models.audio_cnn import AudioCNN
from birdclf.runs.predictor import Predictor
from birdclf.training.trainer import check_precision, fast_precision


@pytest.fixture
def device(monkeypatch):
    """Set what torch says of the device."""

    def of(*able: str, machine: str = "x86_64", cuda: bool = False, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: "amx" in able)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: "avx512_bf16" in able)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: "bf16" in able)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(platform, "machine", lambda: machine)

    return of


def test_a_processor_is_asked_for_its_instructions(device):
    device()
    assert fast_precision() == ("32-true", "this processor has no bfloat16 instructions")
    device("avx512_bf16")
    assert fast_precision() == ("bf16-mixed", "this processor has AVX512-BF16")
    device("amx", "avx512_bf16")
    assert fast_precision("cpu") == ("bf16-mixed", "this processor has AMX")


def test_a_gpu_takes_what_its_generation_has_unless_the_cpu_is_asked_for(device):
    device("bf16", cuda=True)
    assert fast_precision()[0] == fast_precision("gpu")[0] == "bf16-mixed" and fast_precision("cpu")[0] == "32-true"
    device(cuda=True)
    assert fast_precision("cuda")[0] == "16-mixed"
    device(mps=True)
    assert fast_precision()[0] == "16-mixed" and fast_precision("cpu")[0] == "32-true"


def test_16_bits_that_the_device_lacks_are_refused(device):
    device()
    check_precision("bf16-mixed", "auto")
    for precision in ("16-mixed", "16-true"):
        with pytest.raises(UserError, match="a CPU has no float16"):
            check_precision(precision, "auto")
    device(cuda=True)
    check_precision("16-mixed", "auto")
    with pytest.raises(UserError, match="this GPU has no bfloat16"):
        check_precision("bf16-mixed", "gpu")
    with pytest.raises(UserError, match="a CPU has no float16"):
        check_precision("16-mixed", "cpu")
    device("bf16", cuda=True)
    check_precision("bf16-mixed", "auto")
    device(mps=True)
    check_precision("16-mixed", "auto")


def test_evaluation_is_in_float32_whatever_the_precision_of_training():
    torch.manual_seed(0)
    features = MFCCStack(window_s=0.5)
    predictor = Predictor(AudioCNN(num_classes=3, in_channels=3, width=0.1), features).eval()
    bands = torch.randn(4, features.n_bands, features.frames)
    batch = Batch(bands, torch.zeros(4, dtype=torch.int64), torch.arange(4), torch.arange(4))
    with torch.no_grad():
        plain = predictor.recording_logits(batch)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(predictor.evaluation_logits(batch), plain)
            assert not torch.equal(predictor.recording_logits(batch), plain)
