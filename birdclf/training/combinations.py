"""Parts that undo or exaggerate each other, refused unless the user allows them by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from birdclf.errors import UserError
from birdclf.models.head import CosineLinear, output_layer


@dataclass(frozen=True)
class Parts:
    """What the parts of a training say of themselves; one that says nothing does nothing about the prior."""

    loss_corrects: bool
    loss_weighs: bool
    sampler_balances: bool
    posthoc_corrects: bool


@dataclass(frozen=True)
class Rule:
    """A combination: its name in ``allow``, when it is there, and what is wrong with it."""

    name: str
    holds: Callable[[Parts], bool]
    reason: str


RULES = (
    Rule(
        "prior_with_sampler",
        lambda parts: parts.loss_corrects and parts.sampler_balances,
        "the loss corrects for the class counts of the train split (Menon et al., 2021), but the sampler draws classes "
        "otherwise than they occur, so that the correction is of a prior that training never meets. Use "
        "sampler=natural or loss=cross_entropy",
    ),
    Rule(
        "weights_with_sampler",
        lambda parts: parts.loss_weighs and parts.sampler_balances,
        "class weights and a sampler that balances classes both make up for the class counts, so that rare classes are "
        "favoured twice. Use sampler=natural or a loss without class weights",
    ),
    Rule(
        "prior_twice",
        lambda parts: parts.loss_corrects and parts.posthoc_corrects,
        "the loss has taken the prior out of the logits already, and the post-hoc adjustment would take it out again "
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


def check_combinations(loss: Any, sampler: Any, posthoc: Any, allow: Sequence[str]) -> None:
    """Refuse parts that correct for the class counts twice.

    Args:
        loss: May say ``corrects_prior`` and ``weighs_classes``.
        sampler: May say ``balances``.
        posthoc: May say ``corrects_prior``.
        allow: Names of rules that are not to be held to.

    Raises:
        UserError: If a rule is broken and not allowed, or ``allow`` has a name that is unknown or not needed.
    """
    known = [rule.name for rule in RULES]
    if unknown := [name for name in allow if name not in known]:
        raise UserError(f"allow has {unknown[0]!r}; it may have {', '.join(known)}.")
    parts = Parts(
        loss_corrects=bool(getattr(loss, "corrects_prior", False)),
        loss_weighs=bool(getattr(loss, "weighs_classes", False)),
        sampler_balances=bool(getattr(sampler, "balances", False)),
        posthoc_corrects=bool(getattr(posthoc, "corrects_prior", False)),
    )
    for rule in RULES:
        if rule.holds(parts) and rule.name not in allow:
            raise UserError(f"These do not go together: {rule.reason}, or study it with allow=[{rule.name}].")
        if rule.name in allow and not rule.holds(parts):
            raise UserError(f"allow has {rule.name}, but nothing here is refused by that name. Leave it out.")


def check_head(loss: Any, network: nn.Module, num_classes: int) -> None:
    """Refuse a loss of cosines on logits that are none, or that are scaled otherwise.

    Args:
        loss: May say ``cosine_scale``.
        network: Has the last layer.
        num_classes: K.

    Raises:
        UserError: If they do not fit.
    """
    scale, name = getattr(loss, "cosine_scale", None), type(loss).__name__
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


def check_rows(posthoc: Any, network: nn.Module, num_classes: int) -> None:
    """Refuse what is done by the lengths of an output layer's rows where they are of one length.

    Args:
        posthoc: May say ``needs_rows``.
        network: Has the last layer.
        num_classes: K.

    Raises:
        UserError: If they do not fit.
    """
    if getattr(posthoc, "needs_rows", False) and isinstance(output_layer(network, num_classes), CosineLinear):
        raise UserError(
            "posthoc=tau_norm makes the rows of the output layer more equal, but those of a cosine head are so. Use "
            "model.head=linear, or posthoc=none."
        )
