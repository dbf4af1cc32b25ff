import math

import pytest
import torch
from torch.optim import SGD

from birdclf.errors import UserError
from birdclf.training.optim.schedules import constant, plateau, warmup_cosine, warmup_step

BASES = (1e-3, 0.02)


def optimizer() -> SGD:
    return SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": base} for base in BASES], lr=0.1)


def trace(schedule, epochs: int, **settings) -> list[list[float]]:
    """Return, for each parameter group, the rate of each epoch as a share of its base rate."""
    steps = optimizer()
    scheduler = schedule(steps, **settings)
    rates = []
    for _ in range(epochs):
        rates.append([group["lr"] / base for group, base in zip(steps.param_groups, BASES, strict=True)])
        steps.step()
        scheduler.step()
    return [list(group) for group in zip(*rates, strict=True)]


def test_the_studys_warmup_and_steps():
    expected = [0.2, 0.4, 0.6, 0.8] + [1.0] * 11 + [0.5] * 10 + [0.25] * 10 + [0.125] * 5
    assert len(expected) == 40
    for group in trace(warmup_step, 40):
        assert group == pytest.approx(expected, rel=1e-12)


def test_the_first_epoch_starts_low_before_any_step():
    steps = optimizer()
    warmup_step(steps)
    assert [group["lr"] for group in steps.param_groups] == pytest.approx([0.2 * base for base in BASES])


def test_every_setting_of_warmup_step_acts():
    assert trace(warmup_step, 4, warmup_epochs=0)[0] == [1.0] * 4
    assert trace(warmup_step, 4, warmup_epochs=2)[0] == [0.5, 1.0, 1.0, 1.0]
    for group in trace(warmup_step, 7, warmup_epochs=1, step_epochs=2, factor=0.1):
        assert group == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine():
    for group in trace(warmup_cosine, 12, max_epochs=10, warmup_epochs=3, floor=0.1):
        assert group[:4] == pytest.approx([1 / 3, 2 / 3, 1, 1])
        half = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / 6)) for i in range(7)]
        assert group[3:10] == pytest.approx(half)
        assert group[6] == pytest.approx(0.55) and group[9] == pytest.approx(0.1)
        assert group[10:] == pytest.approx([0.1, 0.1])


def test_cosine_shorter_than_its_warmup():
    assert trace(warmup_cosine, 3, max_epochs=3)[0] == pytest.approx([0.2, 0.4, 0.6])
    assert trace(warmup_cosine, 1, max_epochs=1, warmup_epochs=0)[0] == [1.0]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_plateau_waits_for_its_patience(mode):
    steps = optimizer()
    scheduler = plateau(steps, mode=mode, patience=2, factor=0.5, min_lr=4e-4)
    rates = []
    for figure in [0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]:
        scheduler.step(figure if mode == "max" else 1 - figure)
        rates.append([group["lr"] for group in steps.param_groups])
    first, second = zip(*rates, strict=True)
    assert first == pytest.approx([1e-3] * 5 + [5e-4] * 3 + [4e-4] * 4)  # not below min_lr
    assert second == pytest.approx([0.02] * 5 + [0.01] * 3 + [0.005] * 3 + [0.0025])


def test_constant():
    assert trace(constant, 40) == [[1.0] * 40] * 2


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [
        (warmup_step, {"warmup_epochs": -1}),
        (warmup_step, {"step_epochs": 0}),
        (warmup_step, {"factor": 0.0}),
        (warmup_step, {"factor": 1.5}),
        (warmup_step, {"factor": math.nan}),
        (warmup_cosine, {"max_epochs": 10, "warmup_epochs": -1}),
        (warmup_cosine, {"max_epochs": 10, "floor": -0.1}),
        (warmup_cosine, {"max_epochs": 10, "floor": 1.1}),
        (warmup_cosine, {"max_epochs": 10, "floor": math.nan}),
        (plateau, {"mode": "max", "patience": -1}),
        (plateau, {"mode": "max", "factor": 1.0}),
        (plateau, {"mode": "max", "factor": 0.0}),
    ],
)
def test_bad_values_are_refused(schedule, settings):
    with pytest.raises(UserError, match=r"scheduler\."):
        schedule(optimizer(), **settings)
