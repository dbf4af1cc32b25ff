"""Runs that augment: they go on to the same end, a probability of 0 is none, and evaluation sees sound as it is."""

from pathlib import Path

import pytest
import torch
from stopping import Killed, assert_same_end, history_of, stop_in, weights_of, words
from test_several_processes import DDP
from tiny_runs import Command, on_folder

from birdclf.training.callbacks.snapshot import Snapshot

# In 16 bits, as on a processor that is fast in them: a run ends the same there too.
CHAIN = (
    *("augment=[specaugment,mixup,background,shift,noise]", "augment.mixup.alpha=1", "trainer.max_epochs=3"),
    "trainer.precision=bf16-mixed",
)
SHORT = ("trainer.max_epochs=2", "loader.batch_size=8", "model.dropout=0.5")


@pytest.fixture(scope="module")
def augmented(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("augmented") / "run"
    done = birdclf(*words(recordings, run, *CHAIN), cwd=run.parent)
    assert done.status == 0, done.err
    return run


@pytest.mark.slow
@pytest.mark.parametrize("call", [8, 3])
def test_stopped_in_the_middle_of_an_epoch_it_ends_as_if_nothing_had_happened(
    birdclf, recordings, tmp_path, augmented, call
):
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, Snapshot, "on_train_batch_end", call)
        with pytest.raises(Killed):
            birdclf(*words(recordings, run, *CHAIN), cwd=tmp_path)
    done = birdclf(*words(recordings, run, *CHAIN, "resume=true"), cwd=tmp_path)
    assert done.status == 0, done.err
    assert_same_end(run, augmented)


def test_its_evaluation_is_that_of_its_weights_alone(birdclf: Command, augmented: Path):
    done = birdclf("evaluate", augmented, cwd=augmented)
    assert done.status == 0 and "equal to" in done.out, done.out + done.err


@pytest.mark.slow  # each augmentation alone: test_every_augmentation
def test_a_probability_of_zero_is_no_augmentation_bit_for_bit(birdclf, recordings, tmp_path):
    never = ("augment=[specaugment,mixup,gain]", *(f"augment.{name}.p=0" for name in ("specaugment", "mixup", "gain")))
    for run, more in (("plain", ()), ("never", never), ("often", ("augment=specaugment",))):
        done = birdclf(*on_folder(recordings, tmp_path / run, *SHORT, *more), cwd=tmp_path)
        assert done.status == 0, done.err
    plain, never, often = (weights_of(tmp_path / run, "last.ckpt") for run in ("plain", "never", "often"))
    assert plain.keys() == never.keys() == often.keys()
    assert all(torch.equal(plain[key], never[key]) for key in plain)
    assert not all(torch.equal(plain[key], often[key]) for key in plain)
    assert history_of(tmp_path / "plain") == history_of(tmp_path / "never")


@pytest.mark.slow
def test_two_processes_mix_within_their_parts_of_a_batch(birdclf, recordings, tmp_path):
    run = tmp_path / "run"
    named = on_folder(recordings, run, "loader.batch_size=6", "augment=[remix,specaugment]", "augment.remix.p=0.3")
    done = birdclf(*named, *(word for word in DDP if word not in named), cwd=tmp_path)
    assert done.status == 0, done.err
    assert history_of(run)[0]["train/loss"] > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("augment=[mixup,remix]",), "augment has both mixup and remix"),
        (("augment=mixup", "augment.mixup.p=2"), "augment.mixup.p is 2; it must be a number between 0 and 1"),
        (("augment=mixup", "loader.batch_size=1"), "is 1 per process"),
        (("augment=lowpass", "augment.lowpass.max_cutoff_hz=17000"), "the highest band of the features"),
        (("+augment.mixup.p=0.5",), "augment.mixup is not an augmentation. Choose it by augment=mixup"),
        (("augment=mixup", "augment.mixup.beta=1"), "augment.mixup.beta"),
        (("augment=nonsense",), "nonsense"),
    ],
)
def test_what_cannot_be_is_refused_before_any_sound_is_read(birdclf, recordings, tmp_path, settings, said):
    assert said in birdclf(*on_folder(recordings, tmp_path / "run", *settings), cwd=tmp_path).mistake
    assert not (tmp_path / "run" / "split.csv").exists()
