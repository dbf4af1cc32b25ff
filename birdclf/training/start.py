"""Transfer of weights from another run or file, ``init_from``."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

import pandas as pd
import torch
from torch import Tensor, nn

from birdclf.data.tables import read_own
from birdclf.errors import UserError
from birdclf.files import write_whole
from birdclf.models.head import output_layer
from birdclf.runs.checkpoint import read_checkpoint
from birdclf.text import printable

PREFIXES: Final = ("module.", "_orig_mod.", "network.", "model.")
"""Prefixes that wrappers add to a network's names."""
NESTED: Final = ("state_dict", "model_state_dict")


@dataclass(frozen=True)
class Source:
    """Weights in a file.

    Attributes:
        tensors: By their names, without prefixes of wrappers.
        classes: Names of the K classes; None where the file does not say.
        features: Settings of the features that the weights were trained on; None where the file does not say.
    """

    path: Path
    tensors: dict[str, Tensor]
    classes: tuple[str, ...] | None
    features: dict[str, Any] | None


@dataclass
class Transfer:
    """Weights that a network took over from a source.

    Attributes:
        source: Where they come from.
        names: Those that took on the file's values, and whose in the file.
        rest: Those that did not, with the reason.
        by: How they were found: ``name``, or ``order and shape``.
        species: Rows of the output layer that were taken by the name of their species.
    """

    source: Source
    names: dict[str, str]
    rest: dict[str, str]
    by: str
    species: list[str] = field(default_factory=list)


def source_file(init_from: str) -> Path:
    """Return the file of ``init_from``: itself, or a run folder's best checkpoint.

    Raises:
        UserError: If there is none.
    """
    path = Path(init_from).expanduser()
    file = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"init_from={printable(init_from)}: {printable(file)} does not exist. Give a run folder or a file."
        )
    return file


def read_source(init_from: str) -> Source:
    """Open a run's best checkpoint, a checkpoint, or a plain PyTorch file; nothing in it is executed.

    Raises:
        UserError: If it cannot be read, would run code, or holds no weights.
    """
    file = source_file(init_from)
    content = read_checkpoint(file)
    own = content.get("birdclf")
    weights = next((content[key] for key in NESTED if isinstance(content.get(key), Mapping)), content)
    tensors = {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    if isinstance(own, dict):  # birdclf's checkpoints hold features and network
        tensors = {name: value for name, value in tensors.items() if name.startswith("network.")}
    if not tensors:
        raise UserError(
            f"init_from: {printable(file)} holds no weights. Give a run folder, a checkpoint or a state dict."
        )
    classes = own.get("classes") if isinstance(own, dict) else None
    features = own.get("features") if isinstance(own, dict) else None
    return Source(
        file,
        {_bare(name): value for name, value in tensors.items()},
        tuple(map(str, classes)) if isinstance(classes, list) else None,
        features if isinstance(features, dict) else None,
    )


@torch.no_grad()
def transfer_weights(network: nn.Module, source: Source, classes: tuple[str, ...], redraw: bool = False) -> Transfer:
    """Give a network the weights of a source, as far as they fit.

    Tensors are found by name, or by their order, last names and shapes where that finds more. The output layer is taken
    whole where the K ``classes`` are the same ones, or the source does not say; else the rows of the species that both
    have. ``redraw`` keeps its random values.

    Raises:
        UserError: If nothing fits.
    """
    state = network.state_dict()
    last = output_layer(network, len(classes))
    prefix = next(name for name, layer in network.named_modules() if layer is last)
    head = {f"{prefix}.{name}".lstrip(".") for name in last.state_dict()}
    by_name = {name: _bare(name) for name in state if _bare(name) in source.tensors}
    by_order = _in_order(state, source.tensors)
    ways = (("name", _of_equal_shape(by_name, state, source.tensors)), ("order and shape", by_order))
    by, found = max(ways, key=lambda way: len(way[1]))
    other_classes = source.classes is not None and source.classes != classes
    transfer = Transfer(source, {}, {}, by)
    for name, value in state.items():
        offered = source.tensors.get(by_name.get(name, ""))
        if name in head and redraw:
            transfer.rest[name] = "redrawn"
        elif name in head and other_classes:
            transfer.rest[name] = "other classes"
            if offered is not None:
                transfer.species = _rows(value, offered, source.classes or (), classes)
        elif name in found:
            value.copy_(source.tensors[found[name]])
            transfer.names[name] = found[name]
        else:
            there = f"there {_size(offered)}" if offered is not None else "not there"
            transfer.rest[name] = f"{_size(value)}, {there}"
    if head >= state.keys() and redraw:
        raise UserError(
            f"redraw_output (experiment=crt has it) redraws all that {type(network).__name__} has: it is one layer, so "
            f"that a second stage is a training of its own. Leave out init_from and redraw_output."
        )
    # The rows of an output layer fit by their species, of which a check of the settings knows none.
    rows_fit = other_classes and any(
        name in head and name in by_name and value.shape[1:] == source.tensors[by_name[name]].shape[1:]
        for name, value in state.items()
        if value.ndim > 1
    )
    if not any(state[name].ndim for name in transfer.names) and not (head >= state.keys() and rows_fit):
        raise UserError(
            f"init_from: of the {len(source.tensors)} tensors of {printable(source.path)} none fits "
            f"{type(network).__name__} ({_listed(transfer.rest)}). Choose the model that it was trained as."
        )
    return transfer


def _bare(name: str) -> str:
    while prefix := next((p for p in PREFIXES if name.startswith(p) and name != p), ""):
        name = name.removeprefix(prefix)
    return name


def _of_equal_shape(
    pairs: Mapping[str, str], state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> dict[str, str]:
    return {name: other for name, other in pairs.items() if state[name].shape == tensors[other].shape}


def _in_order(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return which tensor stands for which where the sequences of kinds and shapes agree."""

    def kinds(some: Mapping[str, Tensor]) -> list[tuple[str, torch.Size]]:
        return [(name.rpartition(".")[2], value.shape) for name, value in some.items()]

    names, offered = list(state), list(tensors)
    same = SequenceMatcher(None, kinds(state), kinds(tensors), autojunk=False).get_matching_blocks()
    return {names[block.a + i]: offered[block.b + i] for block in same for i in range(block.size)}


def _rows(value: Tensor, offered: Tensor, theirs: Iterable[str], classes: tuple[str, ...]) -> list[str]:
    """Copy the rows of the species that both class lists have; return their names."""
    row_of = {name: row for row, name in enumerate(theirs)}
    if offered.shape[1:] != value.shape[1:] or value.ndim == 0 or len(offered) != len(row_of):
        return []
    common = [name for name in classes if name in row_of]
    for name in common:
        value[classes.index(name)] = offered[row_of[name]]
    return common


def _size(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"


def _listed(rest: Mapping[str, str]) -> str:
    return "; ".join(f"{printable(name)}: {why}" for name, why in list(rest.items())[:3])


log = logging.getLogger(__name__)

TABLE: Final = "init_from.csv"
LOADED: Final = "pretrained.csv"
LISTED: Final = 12  # names that a log shows


def report(transfer: Transfer, features: Mapping[str, Any], recordings: pd.DataFrame, folder: Path) -> None:
    """Log how much fitted and what of the source is not taken over, and write ``init_from.csv``, one row per tensor.

    ``features`` are the settings of this run's features, ``recordings`` its ``recording_id`` and ``split``.
    """
    source, total = transfer.source, len(transfer.names) + len(transfer.rest)
    log.info(
        "init_from %s: %d of %d tensors fitted, by %s", printable(source.path), len(transfer.names), total, transfer.by
    )
    for name, why in list(transfer.rest.items())[:LISTED]:
        log.info("  random: %s (%s)", printable(name), why)
    if len(transfer.rest) > LISTED:
        log.info("  random: %d more", len(transfer.rest) - LISTED)
    if transfer.species:
        log.info("  output layer: rows of %d species that both runs have", len(transfer.species))
    table = _table(transfer)
    write_whole(folder / TABLE, table.to_csv(index=False))
    unused = int((table.outcome == "not used").sum())
    log.info("%s has one row per tensor; %d of the file are not used", TABLE, unused)
    log.info("class list, class counts and normalisation are this run's own")
    theirs = {name: value for name, value in (source.features or {}).items() if features.get(name) != value}
    for name, value in theirs.items():
        log.warning(
            "init_from was trained on other features: features.%s was %s and is %s now",
            printable(name), printable(value), printable(features.get(name)),
        )  # fmt: skip
    _warn_of_overlap(source.path, recordings)


def report_loaded(loaded: Mapping[str, str], source: str, folder: Path) -> None:
    """Log how much of the file ``model.pretrained`` was loaded, and write ``pretrained.csv``, one row per tensor."""
    others = {name: outcome for name, outcome in loaded.items() if outcome != "fitted"}
    fitted = sum(outcome.startswith("fitted") for outcome in loaded.values())
    log.info("model.pretrained %s: %d of %d tensors fitted, by name", printable(source), fitted, len(loaded))
    for name, outcome in list(others.items())[:LISTED]:
        log.info("  %s: %s", printable(name), outcome)
    table = pd.DataFrame(loaded.items(), columns=["of_the_file", "outcome"])
    write_whole(folder / LOADED, table.to_csv(index=False))


def check_frozen(network: nn.Module, transfer: Transfer, num_classes: int, head: bool = True) -> None:
    """Refuse to freeze parameters without transferred values: they would stay random.

    ``head`` says whether to check the output layer too.

    Raises:
        UserError: If such a parameter is frozen.
    """
    last = {id(parameter) for parameter in output_layer(network, num_classes).parameters()}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad or name in transfer.names or (not head and id(parameter) in last):
            continue
        raise UserError(
            f"layers.freeze keeps {name} as it is, but init_from has no values for it "
            f"({transfer.rest.get(name, 'not there')}): it would stay random. Choose the model and the features that "
            f"the weights were trained with, or freeze less."
        )


def _table(transfer: Transfer) -> pd.DataFrame:
    """Return each tensor of the network, then those of the file that it has no use for."""
    rows = [(name, theirs, "fitted") for name, theirs in transfer.names.items()]
    rows += [(name, "", f"random: {why}") for name, why in transfer.rest.items()]
    taken = set(transfer.names.values())
    rows += [("", name, "not used") for name in transfer.source.tensors if name not in taken]
    return pd.DataFrame(rows, columns=["tensor", "of_the_file", "outcome"])


def _warn_of_overlap(file: Path, recordings: pd.DataFrame) -> None:
    """Warn of held-out recordings by which the weights of a run were learnt or chosen."""
    known = file.parent.parent / "split.csv"
    if file.parent.name != "checkpoints" or not known.is_file():
        return
    earlier = read_own(known, ("recording_id", "split"))
    stage = dict(zip(earlier.recording_id, earlier.split, strict=True))
    before = recordings.recording_id.map(stage)
    for held_out, learnt in (("val", ("train",)), ("test", ("train", "val"))):
        held = recordings.split == held_out
        if overlap := int((held & before.isin(learnt)).sum()):
            log.warning(
                "init_from was trained on %d of %d %s recordings (its %s split), so figures are too good. Use its "
                "split: split=file split.path=%s",
                overlap, int(held.sum()), held_out, " or ".join(learnt), printable(known),
            )  # fmt: skip
