import logging
from pathlib import Path

import pandas as pd
import pytest
import torch

from birdclf.errors import UserError
from birdclf.models.audio_cnn import AudioCNN
from birdclf.training.optim.layers import Layers
from birdclf.training.start import Source, check_frozen, report, transfer_weights

CLASSES = ("a", "b", "c")
NOTHING = pd.DataFrame({"recording_id": [], "split": []})


def network(seed: int, classes: int = 3, channels: int = 3) -> AudioCNN:
    torch.manual_seed(seed)
    return AudioCNN(num_classes=classes, in_channels=channels, width=0.1)


def source_of(given: AudioCNN, path: Path = Path("w.ckpt"), classes: tuple[str, ...] = CLASSES, **features) -> Source:
    return Source(path, given.state_dict(), classes, features)


def warnings_in(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_what_fitted_and_what_did_not_is_reported_and_written(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    source = source_of(network(0, 2), classes=("x", "y"), n_mels=64, hop=320)
    source.tensors["extra.weight"] = torch.zeros(2)
    transfer = transfer_weights(network(1), source, CLASSES)
    report(transfer, {"n_mels": 128, "hop": 320}, NOTHING, tmp_path)
    total = len(network(0).state_dict())
    assert f"{total - 2} of {total} tensors fitted, by name" in caplog.text
    assert "random: classifier.4.weight (other classes)" in caplog.text
    assert "normalisation are this run's own" in caplog.text and "3 of the file are not used" in caplog.text
    assert warnings_in(caplog) == ["init_from was trained on other features: features.n_mels was 64 and is 128 now"]
    table = pd.read_csv(tmp_path / "init_from.csv", keep_default_na=False)
    assert list(table) == ["tensor", "of_the_file", "outcome"]
    assert set(table.tensor[table.tensor != ""]) == set(network(0).state_dict())
    assert table.outcome[table.tensor == "classifier.4.bias"].item() == "random: other classes"
    assert set(table.of_the_file[table.outcome == "not used"]) == {
        "extra.weight", "classifier.4.weight", "classifier.4.bias"
    }  # fmt: skip
    assert (table.tensor == table.of_the_file)[table.outcome == "fitted"].sum() == total - 2


def test_a_long_list_is_cut_in_the_log_and_whole_in_the_table(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    whole = network(0).state_dict()
    source = Source(Path("w"), {"features.0.conv.weight": whole["features.0.conv.weight"]}, None, None)
    report(transfer_weights(network(1), source, CLASSES), {}, NOTHING, tmp_path)
    assert f"random: {len(whole) - 1 - 12} more" in caplog.text
    assert pd.read_csv(tmp_path / "init_from.csv").outcome.str.startswith("random").sum() == len(whole) - 1


def test_what_would_stay_random_is_not_frozen():
    given = source_of(network(0, channels=1))
    for freeze, head, refused in (
        (["all_but_output"], True, "features.0.conv.weight"),
        (["features.1"], True, None),
        (["output"], True, "classifier.4.weight"),
        (["output"], False, None),
    ):
        net = network(1)
        transfer = transfer_weights(net, given, CLASSES, redraw=True)
        Layers(freeze=freeze).apply_freeze(net, 3)
        if refused is None:
            check_frozen(net, transfer, 3, head)
        else:
            with pytest.raises(UserError, match=f"layers.freeze keeps {refused} as it is.*random"):
                check_frozen(net, transfer, 3, head)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (("train", "val", "test", "test"), []),
        (("train", "test", "test", "test"), ["1 of 3 test recordings (its train or val split"]),
        (("val", "test", "train", "train"), ["1 of 1 val recordings (its train", "1 of 1 test recordings (its tr"]),
    ],
)
def test_held_out_recordings_that_the_weights_know_are_counted(tmp_path, caplog, now, said):
    names = ["r0", "r1", "r2", "new"]
    pd.DataFrame({"recording_id": names[:3], "species": "a", "split": ["train", "val", "test"]}).to_csv(
        tmp_path / "split.csv", index=False
    )
    source = source_of(network(0), tmp_path / "checkpoints" / "best.ckpt")
    recordings = pd.DataFrame({"recording_id": names, "split": now})
    report(transfer_weights(network(1), source, CLASSES), {}, recordings, tmp_path)
    found = warnings_in(caplog)
    assert len(found) == len(said) and all(words in line for words, line in zip(said, found, strict=True))
