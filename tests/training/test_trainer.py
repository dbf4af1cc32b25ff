"""What the trainer is made of on the devices that there are, and on those that tests can only pretend."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from birdclf.errors import UserError
from birdclf.training.trainer import Compile, build_trainer


def trainer(tmp_path: Path, **settings):
    return build_trainer([], False, tmp_path, accelerator="cpu", enable_progress_bar=False, **settings)


def test_several_devices_train_by_ddp_and_predict_on_one(tmp_path):
    together = trainer(tmp_path, devices=2, strategy="ddp")
    assert isinstance(together.strategy, DDPStrategy) and together.world_size == 2
    alone = trainer(tmp_path, devices=2, strategy="ddp", alone=True)
    assert alone.world_size == 1 and not isinstance(alone.strategy, DDPStrategy)


def test_a_compiled_network_computes_and_is_saved_as_before(tmp_path):
    compiled = trainer(tmp_path, compile="eager")
    (callback,) = (c for c in compiled.callbacks if isinstance(c, Compile))

    class Module(nn.Module):
        network = nn.Linear(3, 2)

    module = Module()
    names, x = list(module.network.state_dict()), torch.randn(4, 3)
    expected = module.network(x)
    callback.setup(compiled, module, "predict")
    assert module.network._compiled_call_impl is None
    callback.setup(compiled, module, "fit")
    assert module.network._compiled_call_impl is not None
    assert list(module.network.state_dict()) == names
    torch.testing.assert_close(module.network(x), expected)
    callback.teardown(compiled, module, "fit")
    assert module.network._compiled_call_impl is None


def test_an_unknown_backend_is_refused_by_name():
    with pytest.raises(UserError, match="'nonsense'.*inductor"):
        Compile("nonsense")
