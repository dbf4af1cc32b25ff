"""What holds for each network that a file of ``conf/model/`` describes."""

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig
from small_networks import smaller
from torch import nn

from birdclf.config import conf_dir
from birdclf.errors import UserError
from birdclf.models.head import CosineLinear, output_layer
from birdclf.models.probes import POOLS, Probe


def node_of(name: str) -> DictConfig:
    """Return what ``model=NAME`` adds to a configuration."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=[f"model={name}"]).model


FOUND = sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml"))
PROBES = [name for name in FOUND if issubclass(get_class(node_of(name)._target_), Probe)]
NAMES = [name for name in FOUND if name not in PROBES]
SHAPES = ((3, 20, 500), (1, 128, 400), (2, 64, 90))


def built(name: str, channels: int, **knobs: Any) -> nn.Module:
    torch.manual_seed(0)
    node = smaller(node_of(name))
    assert set(knobs) <= set(node), f"{name} has no {', '.join(set(knobs) - set(node))}"
    network = instantiate({**node, **knobs}, num_classes=5, in_channels=channels)
    assert isinstance(network, nn.Module)
    return network


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_features_of_any_size_give_logits_or_a_remedy(name: str, shape: tuple[int, int, int]):
    try:
        net = built(name, shape[0]).eval()
        logits = net(torch.randn(1, *shape))
    except (UserError, InstantiationException) as error:
        mistake = error if isinstance(error, UserError) else error.__cause__
        assert isinstance(mistake, UserError) and "features=ast" in str(mistake) and shape != (1, 128, 400)
        return
    assert logits.shape == (1, 5) and logits.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_the_head_can_be_cosine_and_is_found(name: str):
    for head, kind in (("linear", nn.Linear), ("cosine", CosineLinear)):
        net = built(name, 1, head=head)
        layer = output_layer(net)
        assert type(layer) is kind and layer is output_layer(net, num_classes=5)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("name", PROBES)
def test_a_probe_takes_vectors_and_its_output_layer_is_found(name: str, pool: str):
    net = built(name, 7, pool=pool).eval()
    vectors, owner = torch.randn(4, 7), torch.tensor([0, 0, 0, 1])
    logits = net(vectors)
    assert logits.shape == (4, 5) and logits.isfinite().all()
    pooled = net.pool_windows(logits, vectors, owner, 2)
    assert pooled.shape == (2, 5) and pooled.isfinite().all()
    torch.testing.assert_close(pooled[1], logits[3])
    assert output_layer(net, num_classes=5) is output_layer(net) is net.classifier


@pytest.mark.parametrize("name", FOUND)
def test_training_draws_from_the_generators_that_a_snapshot_keeps(name: str):
    knobs = {"dropout": 0.4}
    if "drop_path" in node_of(name):
        knobs["drop_path"] = 0.4
    shape = (7,) if name in PROBES else (1, 128, 400)
    net, x = built(name, shape[0], **knobs).train(), torch.randn(3, *shape)
    with torch.no_grad():
        state, others = torch.get_rng_state(), (random.getstate(), np.random.get_state()[1].tolist())
        first = net(x)
        torch.set_rng_state(state)
        torch.testing.assert_close(net(x), first, rtol=0, atol=0)
    assert others == (random.getstate(), np.random.get_state()[1].tolist())


@pytest.mark.slow
def test_libraries_of_extras_are_imported_with_the_network_only():
    modules = ", ".join(f"birdclf.models.{name}" for name in ("ast", "image_network", "pretrained", "audio_cnn_v3"))
    code = f"import sys, {modules}; print(sorted({{'timm', 'transformers', 'huggingface_hub'}} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert out.stdout.strip() == "[]"
