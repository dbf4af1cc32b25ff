"""Combinations of a run's parts that are refused: corrections for class imbalance made twice, parts that do not fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from torch import nn

from birdclf.data.samplers import Sampler
from birdclf.errors import UserError
from birdclf.losses.base import Loss
from birdclf.models.head import CosineLinear, output_layer
from birdclf.posthoc.base import PostHoc


@dataclass(frozen=True)
class Parts:
    """Corrections for class imbalance by loss, sampler and post-hoc method."""

    loss_corrects: bool
    loss_weighs: bool
    sampler_balances: bool
    posthoc_corrects: bool


@dataclass(frozen=True)
class Rule:
    """A refused combination: its name in ``allow``, its condition and the reason."""

    name: str
    holds: Callable[[Parts], bool]
    reason: str


RULES = (
    Rule(
        "prior_with_sampler",
        lambda parts: parts.loss_corrects and parts.sampler_balances,
        "the loss corrects for the class counts of the train split (Menon et al., 2021), but the sampler changes the "
        "class frequencies, so the correction is for a prior that training does not have. Use sampler=natural or "
        "loss=cross_entropy (of sets loss=bce)",
    ),
    Rule(
        "weights_with_sampler",
        lambda parts: parts.loss_weighs and parts.sampler_balances,
        "class weights and a sampler that balances classes both correct for the class counts, so rare classes are "
        "favoured twice. Use sampler=natural or a loss without class weights",
    ),
    Rule(
        "prior_twice",
        lambda parts: parts.loss_corrects and parts.posthoc_corrects,
        "the loss has removed the prior from the logits already, and the post-hoc adjustment would remove it again "
        "(Menon et al., 2021, give them as alternatives). Use posthoc=none or loss=cross_entropy",
    ),
    Rule(
        "weights_with_posthoc",
        lambda parts: parts.loss_weighs and parts.posthoc_corrects,
        "the post-hoc adjustment expects logits that follow the class counts, which class weights have changed. Use "
        "posthoc=none or a loss without class weights",
    ),
    Rule(
        "sampler_with_posthoc",
        lambda parts: parts.sampler_balances and parts.posthoc_corrects,
        "the post-hoc adjustment expects logits that follow the class counts, which the sampler has changed. Use "
        "posthoc=none or sampler=natural",
    ),
)


ANY: Final = "any"
"""The name in ``allow`` that allows all, for a sweep over both parts of a combination."""


def check_combinations(loss: Loss, sampler: Sampler, posthoc: PostHoc, allow: Sequence[str]) -> None:
    """Refuse parts that correct for the class counts twice.

    Raises:
        UserError: If a rule is broken and not allowed, or ``allow`` has a name that is unknown or not needed.
    """
    known = [rule.name for rule in RULES]
    if unknown := [name for name in allow if name not in (*known, ANY)]:
        raise UserError(f"allow has {unknown[0]!r}; it may have {', '.join(known)}, or {ANY}.")
    if ANY in allow:
        return
    parts = Parts(
        loss_corrects=loss.corrects_prior,
        loss_weighs=loss.weighs_classes,
        sampler_balances=sampler.balances,
        posthoc_corrects=posthoc.corrects_prior,
    )
    for rule in RULES:
        if rule.holds(parts) and rule.name not in allow:
            raise UserError(f"These do not go together: {rule.reason}, or study it with allow=[{rule.name}].")
        if rule.name in allow and not rule.holds(parts):
            raise UserError(f"allow has {rule.name}, but no combination here is refused by that rule. Leave it out.")


def check_head(loss: Loss, network: nn.Module, num_classes: int) -> None:
    """Refuse a loss with margins in cosines without a cosine head of the same scale.

    Raises:
        UserError: If they do not match.
    """
    scale, name = loss.cosine_scale, type(loss).__name__
    if scale is None:
        return
    layer = output_layer(network, num_classes)
    if not isinstance(layer, CosineLinear):
        raise UserError(
            f"{name} has margins in cosines, but the network's last layer is {type(layer).__name__}. Use "
            f"model.head=cosine."
        )
    if layer.scale != scale:
        raise UserError(
            f"loss.scale is {scale:g}, but the cosine head's scale is {layer.scale:g}. Set model.scale alone; "
            f"loss.scale follows it."
        )


def check_rows(posthoc: PostHoc, network: nn.Module, num_classes: int) -> None:
    """Refuse a correction by the norms of the output layer's rows for a cosine head, whose norms are all 1.

    Raises:
        UserError: If they do not fit.
    """
    if posthoc.needs_rows and isinstance(output_layer(network, num_classes), CosineLinear):
        raise UserError(
            "posthoc=tau_norm rescales the output layer's rows by their norms, but in a cosine head all norms are 1. "
            "Use model.head=linear, or posthoc=none."
        )
