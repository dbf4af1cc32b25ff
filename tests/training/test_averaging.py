import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from birdclf.errors import UserError
from birdclf.runs.predictor import Predictor
from birdclf.training.callbacks.averaging import Averaging, MovingAverage, StochasticWeightAverage

CPU = SimpleNamespace(root_device=torch.device("cpu"))


class Module(Predictor):
    """What an average sees of a classifier."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)), nn.Identity())
        self.network.eval()  # so that no statistics are measured
        self.set(value)

    @torch.no_grad()
    def set(self, value: float) -> None:
        for parameter in self.network.parameters():
            parameter.fill_(value)
        self.network[1].running_mean.fill_(10 * value)

    @property
    def value(self) -> float:
        return float(self.network[0].weight.detach())


def begin(averaging: Averaging, module: Module) -> None:
    averaging.setup(SimpleNamespace(strategy=CPU), module, "fit")


def average(averaging: Averaging) -> Module:
    return averaging._average_model.module


def step(averaging: Averaging, module: Module, number: int) -> None:
    averaging.on_train_batch_end(SimpleNamespace(global_step=number), module, None, None, 0)


def followed(averaging: MovingAverage, values: list[float]) -> float:
    module = Module(values[0])
    begin(averaging, module)
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
    begin(averaging, module)
    module.set(1.0)
    for number in (0, 0, 1, 1, 1):
        step(averaging, module, number)
    assert averaging.taken == 2 and average(averaging).value == 0.5  # with the first weights


def test_statistics_and_counters_are_copied():
    averaging, module = MovingAverage(0.9, warmup=False), Module(0.0)
    begin(averaging, module)
    module.set(3.0)
    module.network[1].num_batches_tracked.fill_(5)
    step(averaging, module, 1)
    norm = average(averaging).network[1]
    assert float(norm.running_mean) == 30.0 and int(norm.num_batches_tracked) == 5


def test_validation_sees_the_average_and_training_continues_with_its_own():
    averaging, module = MovingAverage(0.5, warmup=False), Module(0.0)
    begin(averaging, module)
    module.set(1.0)
    step(averaging, module, 1)
    averaging.on_validation_epoch_start(None, module)
    assert module.value == 0.5
    averaging.on_validation_epoch_end(None, module)
    assert module.value == 1.0 and average(averaging).value == 0.5


def test_a_checkpoint_holds_the_average_and_a_snapshot_both():
    averaging, module = MovingAverage(0.5, warmup=False), Module(0.0)
    begin(averaging, module)
    module.set(1.0)
    step(averaging, module, 1)
    checkpoint = {"state_dict": module.state_dict()}
    averaging.on_save_checkpoint(None, module, checkpoint)
    assert checkpoint["state_dict"].keys() == module.state_dict().keys()
    assert float(checkpoint["state_dict"]["network.0.weight"]) == 0.5
    checkpoint, counters = copy.deepcopy(checkpoint), averaging.state_dict()

    resumed, again = MovingAverage(0.5, warmup=False), Module()
    begin(resumed, again)
    again.load_state_dict(checkpoint["state_dict"])
    resumed.on_load_checkpoint(None, again, checkpoint)
    resumed.load_state_dict(counters)
    assert again.value == 1.0 and average(resumed).value == 0.5 and resumed.taken == 2
    step(resumed, again, 1)  # the step that it has taken
    assert resumed.taken == 2


def mean_of(values: list[float], averaging: StochasticWeightAverage, module: Module) -> None:
    trainer = SimpleNamespace(num_training_batches=2, max_epochs=4)
    for epoch, value in enumerate(values):
        trainer.current_epoch = epoch
        for batch in (0, 1):
            trainer.global_step = 2 * epoch + batch + 1
            module.set(value if batch else -99.0)
            averaging.on_train_batch_end(trainer, module, None, None, batch)


def test_a_mean_weighs_the_last_states_of_all_epochs_from_the_start_on_alike():
    averaging, module = StochasticWeightAverage(start=0.25), Module()
    begin(averaging, module)
    mean_of([50.0, 1.0, 2.0, 6.0], averaging, module)
    assert averaging.taken == 3 and average(averaging).value == pytest.approx(3.0)


def test_before_its_start_there_is_no_mean(caplog):
    averaging, module = StochasticWeightAverage(start=0.5), Module()
    begin(averaging, module)
    mean_of([1.0, 2.0], averaging, module)
    averaging.on_validation_epoch_start(None, module)
    assert averaging.taken == 0 and module.value == 2.0
    averaging.on_validation_epoch_end(None, module)
    checkpoint = {"state_dict": module.state_dict()}
    averaging.on_save_checkpoint(None, module, checkpoint)
    assert float(checkpoint["state_dict"]["network.0.weight"]) == 2.0
    resumed, again = StochasticWeightAverage(start=0.5), Module()
    begin(resumed, again)
    resumed.on_load_checkpoint(None, again, copy.deepcopy(checkpoint))
    assert resumed.taken == 0 and again.value == 2.0
    averaging.on_train_end(None, module)
    assert module.value == 2.0 and "no weights were averaged" in caplog.text


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
