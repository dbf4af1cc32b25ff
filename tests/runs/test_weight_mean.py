"""Averaged weights, and norms that are measured anew."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from birdclf.data.dataset import Batch, as_fetched
from birdclf.features.mfcc import MFCCStack
from birdclf.models.audio_cnn_v2 import AudioCNNv2
from birdclf.models.audio_cnn_v3 import AudioCNNv3
from birdclf.runs.predictor import Predictor
from birdclf.runs.soup import mean_weights, update_batch_norms


def test_means_of_numbers_and_the_first_of_counts():
    a, b = ({"w": torch.tensor([1.0, v]), "n": torch.tensor(int(v))} for v in (2.0, 4.0))
    mean = mean_weights([a, b])
    assert mean["w"].tolist() == [1, 3] and mean["n"] == 2 and mean["n"].dtype == torch.int64
    assert all(torch.equal(mean_weights([a] * 3)[name], a[name]) for name in a)
    mean_weights([a])["w"][0] = 9
    assert a["w"][0] == 1


@pytest.fixture
def predictor() -> Predictor:
    torch.manual_seed(0)
    features = MFCCStack(frames=40) if "frames" in MFCCStack.__init__.__annotations__ else MFCCStack()
    return Predictor(AudioCNNv2(num_classes=3, in_channels=features.shape[0], width=0.05), features).eval()


def batches(predictor: Predictor, sizes: list[int]) -> DataLoader:
    shape = (predictor.features.n_bands, predictor.features.frames)
    torch.manual_seed(1)
    parts = [torch.randn(n, *shape) for n in sizes]
    made = [Batch(x, torch.zeros(len(x)).long(), torch.arange(len(x)), torch.arange(len(x))) for x in parts]
    return DataLoader(made, batch_size=None, collate_fn=as_fetched)


def test_norms_get_the_mean_over_windows_whatever_they_held(predictor):
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    norms = [layer for layer in predictor.network.modules() if isinstance(layer, nn.BatchNorm2d)]
    loader, (first, momenta) = batches(predictor, [4, 2, 1]), (norms[0], [norm.momentum for norm in norms])
    seen: list[torch.Tensor] = []
    hook = first.register_forward_pre_hook(lambda norm, inputs: seen.append(inputs[0]))
    first.running_mean.fill_(100)
    update_batch_norms(trainer, predictor, loader)
    hook.remove()
    assert len(seen) == 2, "a single window is left out"
    assert torch.allclose(first.running_mean, torch.cat(seen).mean((0, 2, 3)), atol=1e-5)
    assert [norm.momentum for norm in norms] == momenta and not any(m.training for m in predictor.modules())
    before = {name: value.clone() for name, value in predictor.state_dict().items()}
    update_batch_norms(trainer, predictor, loader)
    assert all(torch.equal(value, before[name]) for name, value in predictor.state_dict().items())


def test_what_a_norm_sees_is_what_evaluation_gives_it():
    torch.manual_seed(0)
    features = MFCCStack()
    network = AudioCNNv3(num_classes=3, in_channels=3, width=0.05, drop_path=0.9, dropout=0.9)
    predictor = Predictor(network, features).eval()
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    loader = batches(predictor, [4, 4])
    update_batch_norms(trainer, predictor, loader)
    norms = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert all(norm.num_batches_tracked == 2 for norm in norms.values()), "each norm heard both batches"
    before = {name: norm.running_var.clone() for name, norm in norms.items()}
    update_batch_norms(trainer, predictor, loader)
    assert all(torch.equal(norm.running_var, before[name]) for name, norm in norms.items())
