import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from birdclf.errors import UserError
from birdclf.training.callbacks.averaging import Averaging, MovingAverage, StochasticWeightAverage


class Module(nn.Module):
    """What an average sees of a classifier."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
        self.set(value)

    @torch.no_grad()
    def set(self, value: float) -> None:
        for parameter in self.network.parameters():
            parameter.fill_(value)
        self.network[1].running_mean.fill_(10 * value)

    @property
    def value(self) -> float:
        return float(self.network[0].weight.detach())


def step(averaging: Averaging, module: Module, number: int) -> None:
    averaging.on_train_batch_end(SimpleNamespace(global_step=number), module, None, None, 0)


def followed(averaging: MovingAverage, values: list[float]) -> float:
    module = Module(values[0])
    averaging.on_train_start(None, module)
    for number, value in enumerate(values[1:], start=1):
        module.set(value)
        step(averaging, module, number)
    averaging.on_train_end(None, module)
    return module.value


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=20), st.floats(0, 0.999))
def test_a_moving_average_is_that_of_its_formula(values, decay):
    expected = values[0]
    for value in values[1:]:
        expected = decay * expected + (1 - decay) * value
    assert followed(MovingAverage(decay, warmup=False), values) == pytest.approx(expected, abs=1e-4)


def test_the_warmup_forgets_the_first_weights():
    values = [100.0] + [1.0] * 20
    expected = 100.0
    for t in range(20):
        d = min(0.999, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * 1.0
    assert followed(MovingAverage(0.999), values) == pytest.approx(expected)
    assert followed(MovingAverage(0.999, warmup=False), values) > 50 > followed(MovingAverage(0.999), values)


def test_no_decay_is_the_weights_themselves():
    assert followed(MovingAverage(0), [1.0, 2.0, 7.0]) == 7.0


def test_batches_without_a_step_do_not_count():
    averaging, module = MovingAverage(0.5, warmup=False), Module(0.0)
    averaging.on_train_start(None, module)
    module.set(1.0)
    for number in (0, 0, 1, 1, 1):
        step(averaging, module, number)
    assert averaging.taken == 1 and float(averaging.average["0.weight"]) == 0.5


def test_statistics_and_counters_are_copied():
    averaging, module = MovingAverage(0.9, warmup=False), Module(0.0)
    averaging.on_train_start(None, module)
    module.set(3.0)
    module.network[1].num_batches_tracked.fill_(5)
    step(averaging, module, 1)
    assert float(averaging.average["1.running_mean"]) == 30.0 and int(averaging.average["1.num_batches_tracked"]) == 5


def test_validation_sees_the_average_and_training_goes_on_with_its_own():
    averaging, module = MovingAverage(0.5, warmup=False), Module(0.0)
    averaging.on_train_start(None, module)
    module.set(1.0)
    step(averaging, module, 1)
    averaging.on_validation_epoch_start(None, module)
    assert module.value == 0.5
    averaging.on_validation_epoch_end(None, module)
    assert module.value == 1.0 and float(averaging.average["0.weight"]) == 0.5


def test_a_checkpoint_holds_the_average_and_a_snapshot_both():
    averaging, module = MovingAverage(0.5, warmup=False), Module(0.0)
    averaging.on_train_start(None, module)
    module.set(1.0)
    step(averaging, module, 1)
    checkpoint = {"state_dict": module.state_dict() | {"features.mean": torch.ones(1)}}
    averaging.on_save_checkpoint(None, module, checkpoint)
    assert checkpoint["state_dict"].keys() == module.state_dict().keys() | {"features.mean"}
    assert float(checkpoint["state_dict"]["network.0.weight"]) == 0.5
    checkpoint, counters = copy.deepcopy(checkpoint), averaging.state_dict()

    resumed, again = MovingAverage(0.5, warmup=False), Module()
    del checkpoint["state_dict"]["features.mean"]
    again.load_state_dict(checkpoint["state_dict"])
    resumed.on_load_checkpoint(None, again, checkpoint)
    resumed.load_state_dict(counters)
    resumed.on_train_start(None, again)
    assert again.value == 1.0 and float(resumed.average["0.weight"]) == 0.5 and resumed.taken == 1


def test_a_mean_weighs_all_states_alike():
    averaging, module = StochasticWeightAverage(start=0), Module()
    for value in (1.0, 2.0, 6.0):
        module.set(value)
        averaging.take(module.network, 1 / (averaging.taken + 1))
    assert float(averaging.average["0.weight"]) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MovingAverage(decay=1), "averaging.decay"),
        (lambda: MovingAverage(decay=-0.1), "averaging.decay"),
        (lambda: StochasticWeightAverage(start=1), "averaging.start"),
        (lambda: StochasticWeightAverage(rate=0), "averaging.rate"),
    ],
)
def test_values_out_of_range(make, said):
    with pytest.raises(UserError, match=said):
        make()
