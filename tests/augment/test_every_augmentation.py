"""What holds for every augmentation that conf/augment has."""

import random

import numpy as np
import pytest
import torch
from batches import COUNTS, EXACT, NAMES, NOW, batch, built, chain, node_of
from torch import nn

from birdclf.augment.augmentation import Augmentation, OnPairs
from birdclf.augment.chain import BatchPosition
from birdclf.errors import UserError
from birdclf.features.mfcc import MFCCStack

MFCC = MFCCStack(window_s=1.0)
each = pytest.mark.parametrize("name", NAMES)


def test_there_are_some():
    assert {
        "specaugment",
        "mixup",
        "remix",
        "gain",
        "shift",
        "roll",
        "background",
        "noise",
        "lowpass",
        "jitter",
    } <= set(NAMES)
    assert node_of("none") == {}


@each
def test_a_file_is_one_augmentation_under_its_own_name(name: str):
    node = node_of(name)
    assert list(node) == [name]
    assert type(built(name)).name == name
    assert "p" in node[name]


@each
@pytest.mark.parametrize("features", [MFCC, EXACT], ids=["mfcc", "all mel bands"])
def test_shape_type_and_finite_values(name: str, features: MFCCStack):
    bands, target = batch(features=features)
    before = bands.clone()
    x, y = chain(built(name, p=1.0), features=features)(bands, target, features, NOW)
    assert x.shape == (8, *features.shape) and x.dtype == torch.float32 and x.isfinite().all()
    assert not torch.equal(x, features(bands)), "it changed nothing"
    assert torch.equal(bands, before), "a batch is the loader's"
    if y.ndim == 2:
        assert y.shape == (8, len(COUNTS)) and (y >= 0).all()
        torch.testing.assert_close(y.sum(dim=1), torch.ones(8))
    else:
        assert torch.equal(y, target)


@each
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_sets_of_labels_stay_sets(name: str, p: float):
    link = built(name, p=p)
    if link.task == "single_label":
        with pytest.raises(UserError, match=rf"augment\.{name} is for task=single_label, but task is multi_label"):
            chain(link, task="multi_label")
        return
    bands, classes = batch(50)
    target = torch.randint(-1, 2, (50, len(COUNTS)), generator=torch.Generator().manual_seed(3)).float()
    before = target.clone()
    x, y = chain(link, task="multi_label")(bands, target, EXACT, NOW)
    assert torch.equal(target, before), "a batch is the loader's"
    assert y.shape == target.shape and y.dtype == torch.float32 and set(y.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert (y[target == 1] == 1).all() and (y[target == -1] != 0).all()
    assert torch.equal(y, target) == (p == 0 or not isinstance(link, OnPairs))
    one_each, _ = chain(built(name, p=p))(bands, classes, EXACT, NOW)
    assert torch.equal(x, one_each), "features depend on targets"


@each
def test_a_probability_of_zero_is_nothing_bit_for_bit(name: str):
    bands, target = batch()
    x, y = chain(built(name, p=0.0))(bands, target, EXACT, NOW)
    assert torch.equal(x, EXACT(bands)) and torch.equal(y, target)


@each
def test_it_is_a_function_of_seed_name_and_moment(name: str):
    bands, target = batch()
    first, _ = chain(built(name, p=1.0))(bands, target, EXACT, NOW)
    again, _ = chain(built(name, p=1.0))(bands, target, EXACT, NOW)
    assert torch.equal(first, again)
    others = (BatchPosition(2, 8), BatchPosition(3, 7), BatchPosition(2, 7, rank=1))
    changed = [chain(built(name, p=1.0))(bands, target, EXACT, position)[0] for position in others]
    changed.append(chain(built(name, p=1.0), seed=2)(bands, target, EXACT, NOW)[0])
    assert all(not torch.equal(first, other) for other in changed)


@each
def test_it_draws_from_no_stream_but_its_own(name: str):
    bands, target = batch()
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    chain(built(name, p=1.0))(bands, target, EXACT, NOW)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1]) and random.getstate() == states[2]


@each
def test_it_draws_the_same_beside_others(name: str):
    def draws_of(links) -> tuple[np.ndarray, np.ndarray]:
        ((_, rows, rng),) = [found for found in links._acting(Augmentation, NOW, 64) if type(found[0]).name == name]
        return rows, rng.random(9)

    others = [built(other) for other in NAMES if other not in (name, "mixup", "remix")]
    alone, beside = (draws_of(chain(*links, built(name, p=0.4))) for links in ([], others))
    assert all(np.array_equal(a, b) for a, b in zip(alone, beside, strict=True))


@each
def test_the_rows_that_are_not_chosen_stay_as_they_are(name: str):
    bands, target = batch(100)
    plain = EXACT(bands)
    x, _ = chain(built(name, p=0.3))(bands, target, EXACT, NOW)
    changed = (x != plain).flatten(1).any(dim=1)
    assert 0.12 < changed.float().mean() <= 0.42  # a mask or a shift may have no width
    (rows,) = [rows for _, rows, _ in chain(built(name, p=0.3))._acting(Augmentation, NOW, 100)]
    assert set(changed.nonzero().flatten().tolist()) <= set(rows.tolist())


@each
def test_a_network_learns_behind_it(name: str):
    bands, target = batch()
    x, y = chain(built(name, p=1.0))(bands, target, EXACT, NOW)
    layer = nn.Conv2d(3, len(COUNTS), 3)
    nn.functional.cross_entropy(layer(x).mean(dim=(2, 3)), y).backward()
    assert layer.weight.grad.isfinite().all() and layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["specaugment", "mixup", "remix", "jitter"])
def test_a_gradient_goes_through_what_acts_on_features(name: str):
    scale = torch.ones(3, 1, 1, requires_grad=True)
    bands, target = batch()

    class Scaled(nn.Module):
        def forward(self, bands):
            return EXACT(bands) * scale

    x, _ = chain(built(name, p=1.0))(bands, target, Scaled(), NOW)
    x.square().sum().backward()
    assert scale.grad.isfinite().all() and (scale.grad > 0).all()


@each
def test_a_batch_of_one_does_not_stop_an_epoch(name: str):
    bands, target = batch(1)
    x, y = chain(built(name, p=1.0))(bands, target, EXACT, NOW)
    assert x.shape == (1, *EXACT.shape) and len(y) == 1
    if built(name).needs_partner:
        assert torch.equal(x, EXACT(bands))


@each
def test_its_tensors_go_where_the_classifier_goes_and_into_no_checkpoint(name: str):
    links = chain(built(name))
    assert links.state_dict() == {}
    kept = [value for module in links.modules() for value in vars(module).values() if isinstance(value, torch.Tensor)]
    assert not kept, "a tensor that is no buffer stays on the CPU"
