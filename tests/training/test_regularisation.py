"""What the networks and optimizers have against overfitting acts: weight decay of every optimizer, and dropout."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from birdclf.config import conf_dir
from birdclf.models.audio_cnn import AudioCNN
from birdclf.models.audio_cnn_v2 import AudioCNNv2
from birdclf.training.optim.layers import Layers

OPTIMIZERS = sorted((conf_dir() / "optimizer").glob("*.yaml"))
K = 3


@pytest.mark.parametrize("path", OPTIMIZERS, ids=lambda path: path.stem)
def test_weight_decay_shrinks_what_has_no_gradient_and_leaves_what_is_exempt(path):
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, K))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    make = instantiate(OmegaConf.merge(OmegaConf.load(path), {"weight_decay": 0.1, "lr": 0.01}))
    optimizer = Layers(decay="matrices").optimizer(make, net, K)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            assert parameter.norm() < before[name].norm(), name
        else:
            assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("kind", [AudioCNN, AudioCNNv2])
def test_more_dropout_makes_logits_of_training_vary_more(kind):
    def spread(dropout: float) -> float:
        torch.manual_seed(0)
        net = kind(num_classes=K, width=0.5, dropout=dropout).eval()
        for layer in net.modules():
            if isinstance(layer, nn.Dropout):
                assert layer.p == dropout
                layer.train()
        x = torch.randn(1, 3, 16, 32).expand(64, -1, -1, -1)
        with torch.no_grad():
            return float(net(x).std(dim=0).mean())

    none, half, more = spread(0.0), spread(0.5), spread(0.7)
    assert none < 1e-6 < half < more
