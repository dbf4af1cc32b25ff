from pathlib import Path

import pytest
import torch
from torch import nn

from birdclf.errors import UserError
from birdclf.models.audio_cnn import AudioCNN
from birdclf.models.head import output_layer
from birdclf.models.probes import LinearProbe
from birdclf.training.start import Source, read_source, source_file, transfer_weights

CLASSES = ("a", "b", "c")


def network(seed: int, classes: int = 3, width: float = 0.1) -> AudioCNN:
    torch.manual_seed(seed)
    return AudioCNN(num_classes=classes, width=width)


def written(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def ours(net: nn.Module, classes: tuple[str, ...] = CLASSES, **features) -> dict:
    state = {f"network.{name}": value for name, value in net.state_dict().items()}
    return {
        "state_dict": state | {"features.mean": torch.ones(3, 20)},
        "birdclf": {"classes": list(classes), "features": features},
    }


def equal(one: nn.Module, other: nn.Module) -> dict[str, bool]:
    theirs = other.state_dict()
    return {name: torch.equal(value, theirs[name]) for name, value in one.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "network.", "model.", "module._orig_mod.model."])
@pytest.mark.parametrize("nested", ["", "state_dict", "model_state_dict"])
def test_a_state_dict_fits_by_name_whatever_is_before_it(tmp_path, prefix, nested):
    given, net = network(0), network(1)
    state = {prefix + name: value for name, value in given.state_dict().items()}
    content = {nested: state, "epoch": 3} if nested else state
    transfer = transfer_weights(net, read_source(str(written(tmp_path / "w.pt", content))), CLASSES)
    assert all(equal(net, given).values())
    assert (transfer.by, transfer.rest, len(transfer.names)) == ("name", {}, len(state))


def test_a_run_folder_stands_for_its_best_checkpoint(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    file = written(tmp_path / "run" / "checkpoints" / "best.ckpt", ours(network(0)))
    assert source_file(str(tmp_path / "run")) == file
    net = network(1)
    transfer_weights(net, read_source(str(tmp_path / "run")), CLASSES)
    assert all(equal(net, network(0)).values())


def test_other_names_fit_by_order_and_shape(tmp_path):
    given, net = network(0), network(1)
    values = given.state_dict().items()
    state = {f"body{i // 2}.{i}.{name.rpartition('.')[2]}": value for i, (name, value) in enumerate(values)}
    transfer = transfer_weights(net, read_source(str(written(tmp_path / "w.pt", state))), CLASSES)
    assert transfer.by == "order and shape" and all(equal(net, given).values())


def test_another_width_is_named_and_stays_random(tmp_path):
    net, before = network(1), network(1)
    given = network(0).state_dict() | {"features.0.conv.weight": torch.ones(9, 3, 3, 3)}
    transfer = transfer_weights(net, read_source(str(written(tmp_path / "w.pt", given))), CLASSES)
    assert transfer.rest == {"features.0.conv.weight": "3x3x3x3, there 9x3x3x3"}
    assert equal(net, before)["features.0.conv.weight"] and equal(net, network(0))["features.1.conv.weight"]


def test_rows_of_the_output_layer_go_by_species(tmp_path):
    given, net, before = network(0, classes=4), network(1), network(1)
    source = read_source(str(written(tmp_path / "c.ckpt", ours(given, ("c", "x", "a", "y")))))
    transfer = transfer_weights(net, source, CLASSES)
    old, new, drawn = (output_layer(n) for n in (given, net, before))
    assert transfer.species == ["a", "c"]
    assert torch.equal(new.weight[0], old.weight[2]) and torch.equal(new.bias[2], old.bias[0])
    assert torch.equal(new.weight[1], drawn.weight[1])
    assert set(transfer.rest) == {"classifier.4.weight", "classifier.4.bias"}


def test_the_same_species_in_another_order_are_other_classes(tmp_path):
    given, net = network(0), network(1)
    transfer_weights(net, read_source(str(written(tmp_path / "c.ckpt", ours(given, ("c", "b", "a"))))), CLASSES)
    assert torch.equal(output_layer(net).weight, output_layer(given).weight.flip(0))


def test_the_output_layer_can_be_drawn_again(tmp_path):
    given, net, before = network(0), network(1), network(1)
    transfer_weights(net, read_source(str(written(tmp_path / "c.ckpt", ours(given)))), CLASSES, redraw=True)
    same = equal(net, given)
    assert {name for name in same if not same[name]} == {"classifier.4.weight", "classifier.4.bias"}
    assert torch.equal(output_layer(net).weight, output_layer(before).weight)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": 1}, "holds no weights"),
        ([1], "is no checkpoint"),
        ({"weight": torch.zeros(77)}, "none fits"),
        ({"x.num_batches_tracked": torch.tensor(3)}, "none fits"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        transfer_weights(network(1), read_source(str(written(tmp_path / "w.pt", content))), CLASSES)


def test_what_is_not_there_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.pt"):
        with pytest.raises(UserError, match="does not exist"):
            read_source(str(path))


def test_the_memory_format_stays():
    net = network(1).to(memory_format=torch.channels_last)
    transfer_weights(net, Source(Path("w"), network(0).state_dict(), None, None), CLASSES)
    assert net.features[1].conv.weight.is_contiguous(memory_format=torch.channels_last)


def probe(seed: int, classes: int = 3, width: int = 6) -> LinearProbe:
    torch.manual_seed(seed)
    return LinearProbe(classes, width)


def test_a_network_of_one_layer_fits_by_its_classes_or_its_species(tmp_path):
    source = read_source(str(written(tmp_path / "w.pt", ours(probe(0)))))
    net = probe(1)
    transfer_weights(net, source, CLASSES)
    assert all(equal(net, probe(0)).values())
    net = probe(1, classes=2)
    assert transfer_weights(net, source, ("c", "d")).species == ["c"]
    torch.testing.assert_close(net.classifier.weight[0], probe(0).classifier.weight[2])
    assert transfer_weights(probe(1, classes=2), source, ("", " ")).species == []  # as a check of settings asks
    with pytest.raises(UserError, match="of the 2 tensors .* none fits LinearProbe"):
        transfer_weights(probe(1, width=7), source, ("", " ", "x"))


def test_a_network_of_one_layer_has_no_second_stage(tmp_path):
    source = read_source(str(written(tmp_path / "w.pt", ours(probe(0)))))
    with pytest.raises(UserError, match="redraws all that LinearProbe has"):
        transfer_weights(probe(1), source, CLASSES, redraw=True)
