"""What holds for any loss: each file of ``conf/loss`` is found by looking and held to it, as late in training."""

import math
from collections.abc import Callable
from functools import cache
from itertools import product

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn import functional

from birdclf.config import conf_dir
from birdclf.losses.base import Loss
from birdclf.losses.cross_entropy import CrossEntropy

COUNTS = torch.tensor([1216, 300, 40, 12, 2])
CLASSES = len(COUNTS)
EXAMPLES = 2000
EPOCHS = 10

FILES = sorted(path.stem for path in (conf_dir() / "loss").glob("*.yaml"))
OTHER_KNOBS = [
    "cross_entropy loss.label_smoothing=0.1",
    "cross_entropy_balanced loss.label_smoothing=0.1",
    "cross_entropy_balanced loss.max_weight_ratio=10",
    "focal loss.gamma=0",
    "focal loss.gamma=0.1",
    "focal loss.alpha=0.25",
    "focal loss.alpha=class_frequency",
    "class_balanced loss.beta=0.9999",
    "class_balanced loss.inside=focal",
    "class_balanced loss.inside=focal loss.gamma=0.5",
    "balanced_softmax loss.tau=0.5",
    "ldam loss.reweight_from=null",
    "ldam loss.max_margin=0",
    "ldam loss.scale=1",
    "bce loss.weight_power=1",
    "bce loss.weight_power=0.5 loss.max_weight=3",
    "bce loss.label_smoothing=0.1",
    "bce loss.negative_weight=0.1",
    "bce_adjusted loss.tau=0.5 loss.negative_weight=0.1",
    "focal_bce loss.gamma=0",
    "focal_bce loss.gamma=0.1",
    "focal_bce loss.alpha=0.25 loss.negative_weight=0.1",
    "asymmetric loss.gamma_pos=1",
    "asymmetric loss.gamma_pos=0.5 loss.gamma_neg=0.5",
    "asymmetric loss.margin=0",
    "asymmetric loss.gamma_neg=0",
    "asymmetric loss.margin=1e-50 loss.negative_weight=0.1",
]
FEW = hypothesis_settings(max_examples=8)  # for each of many losses
Make = Callable[..., Loss]


def task_of(case: str) -> str | None:
    node = OmegaConf.load(conf_dir() / "loss" / f"{case.split()[0]}.yaml")
    return get_class(node._target_).task if "_target_" in node else task_of(node.defaults[0])


CASES = [*FILES, *OTHER_KNOBS]
OF_ONE_CLASS = [case for case in CASES if task_of(case) == "single_label"]
OF_SETS = [case for case in CASES if task_of(case) == "multi_label"]


@cache
def settings(case: str) -> DictConfig:
    name, *more = case.split()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[f"loss={name}", *more])
    return cfg.loss


@pytest.fixture(scope="module", params=CASES)
def make(request: pytest.FixtureRequest) -> Make:
    """Return a maker of the loss for some class counts, told that the last epoch has begun if it wants to know."""
    node, of_sets = settings(request.param), request.param in OF_SETS

    def loss(counts: Tensor = COUNTS, **others: float) -> Loss:
        built = instantiate(node, class_counts=counts, **({"examples": EXAMPLES} if of_sets else {}), **others)
        built.begin_epoch(EPOCHS - 1, EPOCHS)
        return built

    return loss


of_one_class = pytest.mark.parametrize("make", OF_ONE_CLASS, indirect=True)
of_sets = pytest.mark.parametrize("make", OF_SETS, indirect=True)


def batch(seed: int = 0, n: int = 16, scale: float = 3.0, sets: bool = False) -> tuple[Tensor, Tensor]:
    """Return logits ``(n, K)`` and targets: classes ``(n,)``, or sets ``(n, K)`` of 1, 0 and -1."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, CLASSES, generator=generator)
    if sets:
        codes = torch.tensor([1.0, 0.0, 0.0, -1.0])
        return logits, codes[torch.randint(0, 4, (n, CLASSES), generator=generator)]
    return logits, torch.randint(0, CLASSES, (n,), generator=generator)


def batch_of(loss: Loss, seed: int = 0, n: int = 16, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Return logits and targets that a loss takes."""
    return batch(seed, n, scale, sets=loss.task == "multi_label")


def one_hot(target: Tensor) -> Tensor:
    return functional.one_hot(target, CLASSES).float()


def test_there_are_losses():
    assert {"cross_entropy", "focal", "class_balanced", "balanced_softmax", "ldam"} <= set(OF_ONE_CLASS)
    assert {"bce", "bce_adjusted", "focal_bce", "asymmetric"} <= set(OF_SETS)
    assert sorted([*OF_ONE_CLASS, *OF_SETS]) == sorted(CASES)


def test_it_says_what_it_does_about_the_prior(make):
    usual, other = make(), make(COUNTS.flip(0))
    logits, target = batch_of(usual)
    said = [getattr(usual, name) for name in ("corrects_prior", "weighs_classes")]
    assert all(isinstance(one, bool) for one in said)
    if any(said):
        assert abs(float(usual(logits, target) - other(logits, target))) > 1e-3, "class counts change nothing"


def test_it_is_a_positive_scalar_that_teaches(make):
    loss = make()
    logits, target = batch_of(loss)
    z = logits.requires_grad_()
    value = loss(z, target)
    gradient = torch.autograd.grad(value, z)[0]
    assert value.shape == () and value > 0
    assert gradient.abs().sum(dim=1).min() > 0, "a recording teaches nothing"
    assert loss(z - 0.1 * gradient, target) < value


@of_one_class
def test_one_hot_targets_equal_integer_targets(make):
    logits, target = batch()
    loss = make()
    torch.testing.assert_close(loss(logits, one_hot(target)), loss(logits, target))


@of_one_class
@FEW
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_a_batch_mixed_with_itself_mixes_losses(make, seed, share):
    """Mixup pairs a batch with a permutation of it, and wants ``share L(a) + (1 - share) L(b)``."""
    logits, a = batch(seed)
    b = a[torch.randperm(len(a), generator=torch.Generator().manual_seed(seed))]
    loss = make()
    soft = share * one_hot(a) + (1 - share) * one_hot(b)
    torch.testing.assert_close(loss(logits, soft), share * loss(logits, a) + (1 - share) * loss(logits, b))


@of_one_class
@FEW
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_it_is_linear_in_a_soft_target(make, seed, share):
    loss = make()
    if isinstance(loss, CrossEntropy) and loss.weighs_classes:
        return  # it divides by the weights of the batch, which only a permutation of it leaves alone
    logits, _ = batch(seed)
    one, two = (torch.softmax(batch(seed + i)[0], dim=1) for i in (1, 2))
    parts = share * loss(logits, one) + (1 - share) * loss(logits, two)
    torch.testing.assert_close(loss(logits, share * one + (1 - share) * two), parts)


@of_one_class
@FEW
@given(seed=st.integers(0, 10**6), shift=st.floats(-100, 100))
def test_logits_shifted_together_change_nothing(make, seed, shift):
    logits, target = batch(seed)
    loss = make()
    torch.testing.assert_close(loss(logits.double() + shift, target), loss(logits.double(), target))


@FEW
@given(seed=st.integers(0, 10**6))
def test_names_and_order_change_nothing(make, seed):
    loss = make()
    logits, target = batch_of(loss, seed)
    generator = torch.Generator().manual_seed(seed)
    value = loss(logits, target)
    rows, classes = torch.randperm(len(logits), generator=generator), torch.randperm(CLASSES, generator=generator)
    torch.testing.assert_close(loss(logits[rows], target[rows]), value)
    # Class classes[i] is called i now.
    renamed = target[:, classes] if loss.task == "multi_label" else classes.argsort()[target]
    torch.testing.assert_close(make(COUNTS[classes])(logits[:, classes], renamed), value)


def test_its_gradient_is_that_of_its_values(make):
    loss = make().double()
    logits, target = batch_of(loss, n=3, scale=1.0)
    z = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, target), z)
    if loss.task == "single_label":
        soft = torch.softmax(batch(seed=1, n=3)[0].double(), dim=1)
        assert torch.autograd.gradcheck(lambda x: loss(x, soft), z)


def test_half_precision_is_computed_in_float32(make):
    loss = make()
    logits, target = batch_of(loss)
    for dtype in (torch.float16, torch.bfloat16):
        half = logits.to(dtype)
        value = loss(half, target)
        assert value.dtype == torch.float32, dtype
        assert torch.equal(value, loss(half.float(), target)), dtype


def test_extreme_logits_stay_finite(make):
    loss, eye = make(), torch.eye(CLASSES)
    targets = (torch.arange(CLASSES), torch.full((CLASSES, CLASSES), 1 / CLASSES))
    if loss.task == "multi_label":
        targets = (eye, 1 - eye, -eye, torch.zeros(CLASSES, CLASSES), torch.ones(CLASSES, CLASSES))
    for dtype, extreme in product((torch.float16, torch.bfloat16, torch.float32), (1e4, -1e4)):
        certain = torch.full((CLASSES, CLASSES), -extreme).fill_diagonal_(extreme)
        one_out = [torch.zeros(CLASSES, CLASSES).index_fill_(1, torch.tensor([k]), extreme) for k in range(CLASSES)]
        for z in (certain, *one_out):
            for target in targets:
                logits = z.to(dtype, copy=True).requires_grad_()
                value = loss(logits, target)
                value.backward()
                assert value.isfinite() and logits.grad.isfinite().all(), (dtype, extreme)


def test_a_batch_of_one(make):
    loss = make()
    logits, target = batch_of(loss, n=1)
    value = loss(logits.requires_grad_(), target)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all() and logits.grad.any()


def test_a_class_without_a_train_recording_stays_finite(make):
    loss = make(torch.tensor([10, 0, 3, 0, 1]))
    assert all(buffer.isfinite().all() for buffer in loss.buffers())
    logits, _ = batch(n=CLASSES)
    target = torch.eye(CLASSES) if loss.task == "multi_label" else torch.arange(CLASSES)
    value = loss(logits.requires_grad_(), target)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()


def test_what_it_holds_moves_with_the_module(make):
    loss = make()
    assert not list(loss.parameters())
    assert len(loss.state_dict()) == len(list(loss.buffers())), "a buffer is missing from checkpoints"
    assert not [name for name, value in vars(loss).items() if isinstance(value, Tensor)]


def test_where_training_stands_leaves_no_trace(make):
    loss = make()
    logits, target = batch_of(loss)
    for epoch in range(EPOCHS):
        fresh = make()
        fresh.begin_epoch(epoch, EPOCHS)
        for before in (EPOCHS - 1, 0, epoch):
            loss.begin_epoch(before, EPOCHS)
            loss.begin_epoch(epoch, EPOCHS)
            assert torch.equal(loss(logits, target), fresh(logits, target))


@FEW
@given(seed=st.integers(0, 10**6))
def test_it_is_a_mean(make, seed):
    loss = make()
    logits, target = batch_of(loss, seed)
    torch.testing.assert_close(loss(logits.repeat(3, 1), torch.cat([target] * 3)), loss(logits, target))


@of_sets
def test_targets_of_any_type_are_alike(make):
    loss = make()
    logits, target = batch_of(loss)
    assert all(torch.equal(loss(logits, target.to(kind)), loss(logits, target)) for kind in (torch.int8, torch.int64))


@of_sets
@FEW
@given(seed=st.integers(0, 10**6))
def test_what_is_masked_has_no_part_in_it(make, seed):
    """Neither its logits nor their number change the loss, and they get no gradient."""
    loss = make()
    logits, target = batch_of(loss, seed)
    masked, z = target == -1, logits.clone().requires_grad_()
    value = loss(z, target)
    gradient = torch.autograd.grad(value, z)[0]
    assert (gradient[masked] == 0).all()
    torch.testing.assert_close(loss(torch.where(masked, 1e4, logits), target), value)
    more = torch.cat([target, torch.full_like(target, -1)])
    torch.testing.assert_close(loss(torch.cat([logits, logits]), more), value)


@of_sets
def test_where_everything_is_masked_it_is_0(make):
    logits, target = batch(sets=True)
    value = make()(logits.requires_grad_(), torch.full_like(target, -1))
    value.backward()
    assert value == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


@of_sets
@FEW
@given(seed=st.integers(0, 10**6), weight=st.floats(0.001, 1))
def test_negatives_are_weighted(make, seed, weight):
    logits, target = batch(seed, sets=True)
    loss = make(negative_weight=1.0)
    known, heard = (target != -1).sum(), (target == 1).sum()
    positives = loss(logits, torch.where(target == 1, 1, -1)) * heard / known
    expected = positives + weight * (loss(logits, target) - positives)
    torch.testing.assert_close(make(negative_weight=weight)(logits, target), expected)
    empty = torch.zeros_like(target)
    torch.testing.assert_close(make(negative_weight=weight)(logits, empty), weight * loss(logits, empty))


@of_sets
@pytest.mark.parametrize("weight", [0, -0.1, 1.1, math.nan])
def test_a_wrong_weight_of_negatives_is_refused(make, weight):
    with pytest.raises(InstantiationException, match=r"loss\.negative_weight is .* above 0, and at most 1"):
        make(negative_weight=weight)
