"""Parameter groups: rates, freezing and weight decay by the names of layers."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Final

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from birdclf.checks import is_number
from birdclf.errors import UserError
from birdclf.models.head import output_layer

MakeOptimizer = Callable[[Iterable[Any]], Optimizer]

OUTPUT: Final = "output"
ALL_BUT_OUTPUT: Final = "all_but_output"


class Layers:
    """Rates, freezing and weight decay by the names of a network's parameters.

    A pattern is a parameter's name, a prefix of it up to a dot, a wildcard, or ``output`` (the last layer) or
    ``all_but_output``.

    Args:
        rates: Factors of the base rate, above 0, by pattern; the first match counts, other parameters have 1.
        freeze: Patterns of the frozen parameters.
        norm_stats: ``frozen`` also freezes the running statistics of frozen batch norms, ``learnt`` updates them.
        decay: ``all`` parameters have the optimizer's weight decay, or ``matrices`` only, not norms and biases.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        rates: Mapping[str, float] | None = None,
        freeze: Sequence[str] = (),
        norm_stats: str = "frozen",
        decay: str = "all",
    ) -> None:
        if isinstance(freeze, str) or not all(isinstance(pattern, str) and pattern for pattern in freeze):
            raise UserError(f"layers.freeze is {freeze!r}; it must be a list of patterns, such as [features.0].")
        for pattern, factor in (rates or {}).items():
            if not is_number(factor) or factor <= 0:
                raise UserError(
                    f"layers.rates gives {pattern} the factor {factor!r}; it must be a number above 0. layers.freeze "
                    f"keeps parameters as they are."
                )
        for name, value, allowed in (
            ("norm_stats", norm_stats, ("frozen", "learnt")),
            ("decay", decay, ("all", "matrices")),
        ):
            if value not in allowed:
                raise UserError(f"layers.{name} is {value!r}; it must be {' or '.join(allowed)}.")
        self.rates = {str(pattern): float(factor) for pattern, factor in (rates or {}).items()}
        self.freeze, self.norm_stats, self.decay = tuple(freeze), norm_stats, decay

    def apply_freeze(self, network: nn.Module, num_classes: int) -> tuple[nn.Module, ...]:
        """Freeze parameters of a network of K outputs; return the batch norms that must stay in evaluation mode.

        Raises:
            UserError: If a pattern matches nothing, or all parameters are frozen.
        """
        matches = _Matcher(network, num_classes)
        for pattern in self.freeze:
            matches.check(pattern, "layers.freeze")
        for name, parameter in network.named_parameters():
            if any(matches(pattern, name) for pattern in self.freeze):
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise UserError(f"layers.freeze is {list(self.freeze)}: nothing is left to learn. Freeze less.")
        norms = [
            norm
            for name, norm in network.named_modules()
            if isinstance(norm, _BatchNorm) and any(matches(pattern, f"{name}.weight") for pattern in self.freeze)
        ]
        if self.norm_stats == "learnt":
            if not norms:
                raise UserError(
                    "layers.norm_stats=learnt lets the statistics of frozen batch norms move, but no batch norm is "
                    "frozen. Leave it out, or freeze some by layers.freeze."
                )
            return ()
        return tuple(norm.eval() for norm in norms)

    def optimizer(self, make: MakeOptimizer, network: nn.Module, num_classes: int) -> Optimizer:
        """Return the optimizer of a network, with a parameter group for each rate and decay.

        Raises:
            UserError: If a pattern has no trainable parameter, or there is no weight decay to leave out.
        """
        if not self.rates and self.decay == "all":
            return make([parameter for parameter in network.parameters() if parameter.requires_grad])
        optimizer = make(self._groups(network, num_classes))
        for group in optimizer.param_groups:
            group["lr"] *= group["factor"]
        if self.decay == "matrices" and not any(group.get("weight_decay") for group in optimizer.param_groups):
            raise UserError(
                "layers.decay=matrices leaves norms and biases without weight decay, but there is none to leave out. "
                "Set optimizer.weight_decay above 0, or layers.decay=all."
            )
        return optimizer

    def _groups(self, network: nn.Module, num_classes: int) -> list[dict[str, Any]]:
        matches = _Matcher(network, num_classes)
        groups: dict[tuple[str, bool], dict[str, Any]] = {}
        learning = dict.fromkeys(self.rates, False)
        for name, parameter in network.named_parameters():
            pattern = next((pattern for pattern in self.rates if matches(pattern, name)), "")
            if not parameter.requires_grad:
                continue
            learning[pattern] = True
            no_decay = self.decay == "matrices" and parameter.ndim < 2
            group = {"params": [], "name": pattern, "factor": self.rates.get(pattern, 1.0)}
            group |= {"weight_decay": 0.0} if no_decay else {}
            groups.setdefault((pattern, no_decay), group)["params"].append(parameter)
        for pattern in self.rates:
            matches.check(pattern, "layers.rates")
            if not learning[pattern]:
                raise UserError(
                    f"layers.rates gives {pattern} a rate, but all that it fits is frozen, or has the rate of a "
                    f"pattern before it. Leave it out, or put it first."
                )
        return list(groups.values())


def named_rates(optimizer: Optimizer) -> dict[str, float]:
    """Return the base rate as ``lr``, and the rate of each named group as ``lr/<pattern>``."""
    groups = optimizer.param_groups
    base = next((group for group in groups if group.get("factor", 1.0) == 1.0), groups[0])
    rates = {"lr": base["lr"] / base.get("factor", 1.0)}
    return rates | {f"lr/{group['name']}": group["lr"] for group in groups if group.get("name")}


class _Matcher:
    """Matches patterns against the names of a network's parameters."""

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        self.network, self.num_classes = network, num_classes
        self.names = [name for name, _ in network.named_parameters()]

    def __call__(self, pattern: str, name: str) -> bool:
        if pattern in (OUTPUT, ALL_BUT_OUTPUT):
            return name.startswith(self._output) == (pattern == OUTPUT)
        return name == pattern or name.startswith(f"{pattern}.") or fnmatchcase(name, pattern)

    def check(self, pattern: str, key: str) -> None:
        """Refuse a pattern without a match."""
        if any(self(pattern, name) for name in self.names):
            return
        parts = [name.split(".") for name in self.names]
        known = dict.fromkeys(".".join(words[:n]) for words in parts for n in range(1, len(words) + 1))
        near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.4) or list(dict.fromkeys(w[0] for w in parts))
        raise UserError(f"{key} has {pattern!r}, which fits no parameter of the network. Near are {', '.join(near)}.")

    @cached_property
    def _output(self) -> str:
        """Prefix of the names in the last layer."""
        last = output_layer(self.network, self.num_classes)
        name = next(name for name, layer in self.network.named_modules() if layer is last)
        return f"{name}." if name else ""
