"""What holds for each network that a file of ``conf/model/`` describes."""

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_networks import smaller
from torch import nn

from birdclf.config import conf_dir
from birdclf.errors import UserError
from birdclf.models.head import CosineLinear, output_layer

NAMES = sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml"))
SHAPES = ((3, 20, 500), (1, 128, 400), (2, 64, 90))


def built(name: str, channels: int, **knobs: Any) -> nn.Module:
    torch.manual_seed(0)
    node = smaller(OmegaConf.load(conf_dir() / "model" / f"{name}.yaml"))
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


@pytest.mark.parametrize("name", NAMES)
def test_training_draws_from_the_generators_that_a_snapshot_keeps(name: str):
    knobs = {"dropout": 0.4}
    if "drop_path" in OmegaConf.load(conf_dir() / "model" / f"{name}.yaml"):
        knobs["drop_path"] = 0.4
    net, x = built(name, 1, **knobs).train(), torch.randn(3, 1, 128, 400)
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
