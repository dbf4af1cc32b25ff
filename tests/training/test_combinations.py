"""Every pair of parts that corrects for the class counts twice is refused, and can be allowed by its name."""

from itertools import product

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from torch import nn

from birdclf.config import conf_dir
from birdclf.data.samplers import ClassAware, Natural, Power, Progressive, Sampler
from birdclf.errors import UserError
from birdclf.losses.balanced_softmax import BalancedSoftmax
from birdclf.losses.base import Loss, as_loss
from birdclf.losses.class_balanced import ClassBalanced
from birdclf.losses.cross_entropy import CrossEntropy
from birdclf.losses.focal import FocalLoss
from birdclf.losses.ldam import LDAM
from birdclf.models.audio_cnn import AudioCNN
from birdclf.models.head import CosineLinear
from birdclf.posthoc.base import LogitAdjustment, PostHoc, Unadjusted
from birdclf.training.build import build_of
from birdclf.training.combinations import RULES, check_combinations, check_head

COUNTS = torch.tensor([5, 2])
PRIOR = BalancedSoftmax(COUNTS)
WEIGHTED = [
    CrossEntropy(COUNTS, weight_power=0.5),
    FocalLoss(COUNTS, alpha="class_frequency"),
    ClassBalanced(COUNTS),
    LDAM(COUNTS),
]
PLAIN = [
    CrossEntropy(COUNTS),
    CrossEntropy(COUNTS, weight_power=1, max_weight_ratio=1),
    FocalLoss(COUNTS, alpha=0.25),
    ClassBalanced(COUNTS, beta=0.0),
    BalancedSoftmax(COUNTS, tau=0.0),
    LDAM(COUNTS, reweight_from=None),
    as_loss(nn.CrossEntropyLoss()),  # a loss from elsewhere says nothing
]
BALANCING = [Power(0.5), Power(0.0), Progressive(5), ClassAware()]
AS_THEY_COME = [Natural(), Power(1.0)]
REFUSED = [
    *[("prior_with_sampler", PRIOR, sampler, Unadjusted()) for sampler in BALANCING],
    *[("weights_with_sampler", loss, sampler, Unadjusted()) for loss, sampler in product(WEIGHTED, BALANCING)],
    *[("prior_twice", PRIOR, sampler, LogitAdjustment()) for sampler in AS_THEY_COME],
    *[("weights_with_posthoc", loss, Natural(), LogitAdjustment(1.0)) for loss in WEIGHTED],
    *[("sampler_with_posthoc", PLAIN[0], sampler, LogitAdjustment()) for sampler in BALANCING],
]


@pytest.mark.parametrize(("name", "loss", "sampler", "posthoc"), REFUSED)
def test_twice_is_refused_unless_allowed(name, loss, sampler, posthoc):
    with pytest.raises(UserError, match=rf"do not go together: .* allow=\[{name}\]"):
        check_combinations(loss, sampler, posthoc, [])
    check_combinations(loss, sampler, posthoc, [name])


def test_every_rule_is_met_here():
    assert {name for name, *_ in REFUSED} == {rule.name for rule in RULES}
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_once_is_fine():
    for loss, sampler in product(PLAIN, BALANCING):
        check_combinations(loss, sampler, Unadjusted(), [])
    for loss, sampler in product([PRIOR, *WEIGHTED, *PLAIN], AS_THEY_COME):
        check_combinations(loss, sampler, LogitAdjustment(0.0), [])
    for loss, sampler in product(PLAIN, AS_THEY_COME):
        check_combinations(loss, sampler, LogitAdjustment(), [])


def test_several_have_to_be_allowed_each():
    with pytest.raises(UserError, match="prior_twice"):
        check_combinations(PRIOR, ClassAware(), LogitAdjustment(), ["prior_with_sampler", "sampler_with_posthoc"])
    check_combinations(
        PRIOR, ClassAware(), LogitAdjustment(), ["prior_with_sampler", "sampler_with_posthoc", "prior_twice"]
    )


def test_a_name_that_allows_nothing_is_refused():
    with pytest.raises(UserError, match=r"allow has 'priors'; it may have prior_with_sampler, "):
        check_combinations(PRIOR, Natural(), Unadjusted(), ["priors"])
    with pytest.raises(UserError, match=r"allow has prior_with_sampler, but no combination here .* Leave it out"):
        check_combinations(PRIOR, Natural(), Unadjusted(), ["prior_with_sampler"])


@pytest.mark.parametrize("group", ["loss", "sampler", "posthoc"])
def test_every_option_says_what_it_does(group):
    said = {"loss": ("corrects_prior", "weighs_classes"), "sampler": ("balances",), "posthoc": ("corrects_prior",)}
    for path in (conf_dir() / group).glob("*.yaml"):
        whole = OmegaConf.create({"trainer": {"max_epochs": 2}, "model": {"scale": None}})
        whole[group] = OmegaConf.load(path)
        if "defaults" in whole[group]:
            continue  # another option of the same class
        known = {"class_counts": COUNTS} if group == "loss" else {}
        if group == "loss" and get_class(whole.loss._target_).task == "multi_label":
            known["examples"] = 6
        option = instantiate(whole[group], **known)
        assert isinstance(option, {"loss": Loss, "sampler": Sampler, "posthoc": PostHoc}[group])
        assert all(isinstance(getattr(option, name), bool) for name in said[group]), path


def test_a_plain_module_is_a_loss_that_offers_nothing():
    loss = as_loss(nn.CrossEntropyLoss())
    logits, target = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    assert loss(logits, target) == nn.functional.cross_entropy(logits, target)
    loss.begin_epoch(0, 3)
    assert (loss.corrects_prior, loss.weighs_classes, loss.cosine_scale, loss.cut_short(1, 3)) == (
        False,
        False,
        None,
        None,
    )
    assert as_loss(PRIOR) is PRIOR
    check_combinations(loss, ClassAware(), LogitAdjustment(0.0), [])
    check_head(loss, AudioCNN(2, width=0.05), 2)


def test_what_is_no_sampler_is_refused_by_the_name_of_its_group():
    node = OmegaConf.create({"_target_": "birdclf.posthoc.base.Unadjusted"})
    with pytest.raises(
        UserError, match=r"sampler\._target_ builds a Unadjusted; it must be a birdclf\.data\.samplers\.Sampler"
    ):
        build_of(Sampler, node, "sampler")


def test_margins_in_cosines_need_a_cosine_head():
    network = AudioCNN(2, width=0.05)
    with pytest.raises(UserError, match=r"LDAM has margins in cosines, .* is Linear\. Use model\.head=cosine"):
        check_head(LDAM(COUNTS), network, 2)
    cosine = AudioCNN(2, width=0.05, head="cosine", scale=16)
    with pytest.raises(UserError, match=r"loss\.scale is 30, .* scale is 16\. Set model\.scale alone"):
        check_head(LDAM(COUNTS), cosine, 2)
    check_head(LDAM(COUNTS, scale=16), cosine, 2)
    check_head(LDAM(COUNTS), nn.Sequential(nn.Flatten(), CosineLinear(3, 2)), 2)
    check_head(CrossEntropy(COUNTS), network, 2)
