"""A user's own code and configs, from outside the checkout, in a process of their own."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_runs import Command, Outcome, on_folder, run_apart, run_here

LOSS = '''
"""A loss of a user's own: cross-entropy times a number."""

import torch
from torch.nn.functional import cross_entropy


class TheirLoss(torch.nn.Module):
    def __init__(self, class_counts, strength=1.0, **others):
        super().__init__()
        print(f"TheirLoss of {len(class_counts)} classes, {int(class_counts.sum())} recordings, strength {strength}")
        self.strength = strength

    def forward(self, logits, target):
        return self.strength * cross_entropy(logits, target)
'''
NETWORK = '''
"""A network of a user's own."""

from torch import nn


class TheirNetwork(nn.Module):
    def __init__(self, num_classes, in_channels, hidden=7, **others):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x):
        return self.layers(x)
'''


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """A user's working folder, with a package, forgotten at the end of a test, and a folder of YAML groups."""
    package = tmp_path / "work" / "their_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from their_package.loss import TheirLoss as TheirLoss\n")
    (package / "loss.py").write_text(LOSS)
    (package / "network.py").write_text(NETWORK)
    conf = tmp_path / "work" / "their_conf"
    for group in ("loss", "model", "experiment"):
        (conf / group).mkdir(parents=True)
    (conf / "loss" / "mine.yaml").write_text("_target_: their_package.TheirLoss\nstrength: 2.5\n")
    (conf / "model" / "mine.yaml").write_text("_target_: their_package.network.TheirNetwork\nhidden: 9\n")
    (conf / "experiment" / "ours.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /loss: mine\n  - override /model: mine\nname: ours\nseed: 5\n"
    )
    yield tmp_path / "work"
    for name in [name for name in sys.modules if name.partition(".")[0] == "their_package"]:
        del sys.modules[name]


def test_a_loss_and_a_network_named_on_the_command_line(birdclf: Command, recordings: Path, work: Path):
    words = on_folder(recordings, "run", "loss._target_=their_package.TheirLoss", "+loss.strength=3")
    words += ["model._target_=their_package.network.TheirNetwork"]
    done = birdclf(*words, cwd=work)
    assert done.status == 0, done.err
    assert "TheirLoss of 4 classes, 21 recordings, strength 3" in done.out
    assert "TheirNetwork: " in done.out
    row = json.loads((work / "run" / "history.json").read_text())[0]
    assert row["val/loss"] == pytest.approx(3 * row["val/nll"], rel=1e-4)


def in_a_shell(*words: object, cwd: Path) -> Outcome:
    """Run the installed command, as a user types it."""
    return run_apart(Path(sys.executable).with_name("birdclf"), *words, cwd=cwd)


@pytest.mark.parametrize("run", [run_here, pytest.param(in_a_shell, marks=pytest.mark.slow)])
def test_groups_of_a_folder_of_ones_own(run: Command, recordings: Path, work: Path):
    command, *words = [word for word in on_folder(recordings, "run") if not word.startswith("model")]
    done = run(command, "--config-dir", "their_conf", "experiment=ours", *words, cwd=work)
    assert done.status == 0, done.err
    assert "TheirLoss of 4 classes, 21 recordings, strength 2.5" in done.out
    weights = torch.load(work / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert weights["state_dict"]["network.layers.0.weight"].shape[0] == 9
    assert weights["birdclf"]["config"]["loss"] == {"_target_": "their_package.TheirLoss", "strength": 2.5}
    assert weights["birdclf"]["config"]["seed"] == 5


def test_own_options_are_named_in_the_help(birdclf: Command, work: Path):
    done = birdclf("train", "--config-dir", "their_conf", "--help", cwd=work)
    loss = next(line for line in done.out.splitlines() if line.startswith("loss:"))
    assert "mine" in loss and "focal" in loss


def test_a_misspelt_option_is_explained_beside_own_groups(birdclf: Command, work: Path):
    words = ["--config-dir", str(work / "their_conf"), "loss=mine", "loss.strenght=2"]
    mistake = birdclf("train", *words, cwd=work).mistake
    assert "loss.strenght" in mistake and "loss.strength?" in mistake
