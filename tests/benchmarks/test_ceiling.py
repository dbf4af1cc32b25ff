import itertools
import json
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import nn

from birdclf.models.audio_cnn_v2 import AudioCNNv2


@pytest.fixture
def ceiling(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("ceiling")


@pytest.fixture
def rows(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("rows")


class Clock:
    """Goes on by the next of some durations whenever work is done; reading it takes no time."""

    def __init__(self, *seconds: float) -> None:
        self.now, self.seconds = 0.0, itertools.cycle(seconds)

    def __call__(self) -> float:
        return self.now

    def work(self) -> None:
        self.now += next(self.seconds)


def test_the_best_repetition_counts_and_the_first_does_not(ceiling) -> None:
    clock = Clock(0.001, 4.0, 2.0)
    work = ceiling.Work("products", 6e9, clock.work)
    assert ceiling.best_rate(work, clock) == pytest.approx(3e9)


@pytest.mark.parametrize(
    ("conv", "shape", "taps"),
    [
        (nn.Conv2d(1, 1, 3, padding=1), (1, 4, 5), (3 * 4 - 2) * (3 * 5 - 2)),
        (nn.Conv2d(1, 1, 3), (1, 4, 5), 9 * 2 * 3),
        (nn.Conv2d(1, 1, 1), (1, 4, 5), 20),
        (nn.Conv2d(1, 1, (3, 5), (2, 2), (1, 2)), (1, 4, 6), (2 + 3) * (3 + 5 + 4)),
    ],
)
def test_operations_on_the_zeros_of_a_padding_are_not_counted(ceiling, conv, shape, taps) -> None:
    assert ceiling.Layer(conv, shape, first=False).forward_flop(7) == 2 * 7 * taps
    # The sum of the output of ones by ones is the number of taps that met data.
    with torch.no_grad():
        conv.weight.fill_(1)
        assert conv.bias is not None
        conv.bias.zero_()
        assert conv(torch.ones(1, *shape)).sum() == taps


def test_a_step_is_three_products_a_layer_and_two_of_the_first(ceiling) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(40, 6))
    layers = ceiling.layers_of(network, (3, 2, 5))
    assert [layer.first for layer in layers] == [True, False]
    assert ceiling.training_flop(layers, 8) == 8 * (2 * 2 * 3 * 4 * 10 + 3 * 2 * 40 * 6)


def test_the_layers_of_phase2b_are_found_with_their_published_channels(ceiling) -> None:
    layers = ceiling.layers_of(AudioCNNv2(89), (3, 20, 500))
    assert [layer.shape for layer in layers] == [
        *((3, 20, 500), (64, 10, 250), (128, 5, 125), (256, 2, 62), (512, 1, 31), (512,), (512,)),
    ]
    assert ceiling.training_flop(layers) == pytest.approx(88.7e9, rel=1e-3)


def test_a_layer_is_timed_forward_and_backward(ceiling) -> None:
    layer = ceiling.Layer(nn.Conv2d(2, 3, 3, padding=1), (2, 4, 5), first=False)
    forward, backward = ceiling.Layer.works(layer, "layer", 6, torch.float32)
    assert (forward.flop, backward.flop) == (layer.forward_flop(6), 2 * layer.forward_flop(6))
    assert forward.run().shape == (6, 3, 4, 5)
    assert [grad.shape for grad in backward.run()] == [(6, 2, 4, 5), (3, 2, 3, 3)]
    (weight,) = list(ceiling.Layer(layer.module, layer.shape, first=True).works("layer", 6, torch.float32))[1].run()
    assert weight.shape == (3, 2, 3, 3)


def test_a_share_is_the_median_step_over_the_best_of_all(ceiling) -> None:
    flop = {"phase2b": 100e9, "best": 150e9}
    steps = [{"phase2b": 1.0, "best": 1.0}, {"phase2b": 0.5, "best": 2.0}, {"phase2b": 2.0, "best": 1.5}]
    found = ceiling.shares(flop, steps, {"mm": 300e9, "convolution": 400e9})
    assert (found["fastest"], found["ceiling_gflop_per_s"]) == ("convolution", pytest.approx(400))
    assert found["share"] == pytest.approx({"phase2b": 0.25, "best": 0.25})
    assert found["shares"]["phase2b"] == pytest.approx([0.25, 0.5, 0.125])


def test_no_share_passes_100_percent_even_if_the_machine_was_slow_for_all_but_one_step(ceiling) -> None:
    steps = [{"phase2b": 0.1, "best": 9.0}, {"phase2b": 0.2, "best": 9.0}]
    found = ceiling.shares({"phase2b": 100e9, "best": 100e9}, steps, {"mm": 222e9})
    assert found["fastest"] == "a step of phase2b"
    assert max(share for row in found["shares"].values() for share in row) == 1
    assert found["share"]["phase2b"] == pytest.approx(0.75)


def test_a_step_made_of_the_layers_that_were_timed_is_below_the_ceiling(ceiling) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(40, 6))
    layers = ceiling.layers_of(network, (3, 2, 5))
    seconds = {}
    for number, layer in enumerate(layers):
        for k, work in enumerate(layer.works(str(number), 8, torch.float32)):
            seconds[work.name] = (work.flop, 0.25 * (1 + number + 2 * k))
    rates = {name: flop / time for name, (flop, time) in seconds.items()}
    step = sum(time for _, time in seconds.values())
    assert sum(flop for flop, _ in seconds.values()) == ceiling.training_flop(layers, 8)
    assert ceiling.shares({"n": ceiling.training_flop(layers, 8)}, [{"n": step}], rates)["fastest"] != "a step of n"


def test_rates_are_kept_once_all_have_been_measured(ceiling, tmp_path, monkeypatch) -> None:
    clock = Clock(0.5, 0.25, 0.125)

    def works(networks: object, dtype: torch.dtype):
        for name in ("mm", "convolution"):
            yield ceiling.Work(name, 1e9, clock.work)

    monkeypatch.setattr(ceiling, "works", works)
    monkeypatch.setattr(ceiling, "training_precision", lambda: ("32-true", "float32"))
    moments = ceiling.measure({}, tmp_path / "rates.json", clock)
    first = next(moments)
    assert json.loads((tmp_path / "rates.json").read_text()) == {"float32": {"mm": 8e9, "convolution": 8e9}}
    assert next(moments) - first >= ceiling.LINE_S


@pytest.mark.parametrize(
    ("capability", "bf16", "amx", "features", "least"),
    [
        ("AVX512", True, True, ["AMX", "AVX512-BF16", "AVX512", "AVX2"], 3.8),
        ("AVX512", True, False, ["AVX512-BF16", "AVX512", "AVX2"], 3.8),
        ("AVX512", False, False, ["AVX512", "AVX2"], 2.2),
        ("AVX2", False, False, ["AVX2"], 1.75),
        ("DEFAULT", False, False, ["DEFAULT"], None),
    ],
)
def test_a_kind_of_processor_has_its_target(ceiling, monkeypatch, capability, bf16, amx, features, least) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(ceiling.platform, "machine", lambda: "x86_64")
    assert ceiling.processor_features() == features
    assert ceiling.least_over_the_loop(features) == least


def test_rows_name_the_precision_and_the_target_of_the_processor(rows) -> None:
    found = {
        "windows_per_s": {"birdclf": 200.0, "plain, 2 workers": 50.0},
        **{"rival": "plain, 2 workers", "ratio": 4.0, "ratios": [3.9, 4.1], "precision": "bf16-mixed", "at_least": 3.8},
    }
    (row,) = rows.of_training(found)
    assert "bf16-mixed" in row.name and "float32" in row.how
    assert (row.value, row.target, row.verdict) == (4.0, "at least 3.8", "[green]met[/]")
    assert rows.of_training({**found, "at_least": None})[0].verdict == ""


def test_rows_of_the_ceiling_hold_best_to_the_share_of_phase2b(ceiling, rows) -> None:
    rates = {"float32": {"mm": 200e9}, "bfloat16": {"mm": 300e9, "convolution": 400e9}}
    step = [{"phase2b": 1.0, "best": 1.0}]
    found = ceiling.shares({"phase2b": 100e9, "best": 80e9}, step, rates["bfloat16"])
    table = rows.of_the_share({**found, "rates": rates, "precision": "bf16-mixed", "dtype": "bfloat16"})
    assert [row.value for row in table] == pytest.approx([200, 400, 25, 20, 0.8])
    assert [row.verdict for row in table] == ["", "", "", "", "[red]not met[/]"]


def test_a_gpu_that_is_not_there_is_not_measured(rows, program, tmp_path, monkeypatch) -> None:
    measure = program("measure")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    table = rows.of_a_gpu(measure.on_a_gpu(tmp_path))
    assert {(row.figure, row.verdict) for row in table} == {("not measured", "")}
    assert not list(tmp_path.iterdir())
