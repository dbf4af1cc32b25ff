"""What a training that starts from other weights says of them, and what it refuses."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd
from torch import nn

from birdclf.catalog.tables import read_own
from birdclf.disk import write_whole
from birdclf.errors import UserError
from birdclf.models.head import output_layer
from birdclf.quoting import shown
from birdclf.training.start import Fitted, Source

log = logging.getLogger(__name__)

TABLE: Final = "init_from.csv"
LISTED: Final = 12  # names that a log shows


def report(fitted: Fitted, source: Source, features: Mapping[str, Any], recordings: pd.DataFrame, folder: Path) -> None:
    """Log how much fitted and what of the source is not taken over, and write ``init_from.csv``, a row a tensor.

    Args:
        fitted: What became of the network's tensors.
        source: What was offered.
        features: Settings of this run's features.
        recordings: ``recording_id`` and ``split`` of this run.
        folder: The run folder.
    """
    total = len(fitted.names) + len(fitted.rest)
    log.info("init_from %s: %d of %d tensors fitted, by %s", shown(source.path), len(fitted.names), total, fitted.by)
    for name, why in list(fitted.rest.items())[:LISTED]:
        log.info("  random: %s (%s)", shown(name), why)
    if len(fitted.rest) > LISTED:
        log.info("  random: %d more", len(fitted.rest) - LISTED)
    if fitted.species:
        log.info("  output layer: rows of %d species that both runs have", len(fitted.species))
    table = _table(fitted, source)
    write_whole(folder / TABLE, table.to_csv(index=False))
    unused = int((table.outcome == "not used").sum())
    log.info("%s has a row a tensor; %d of the file are not used", TABLE, unused)
    log.info("class list, class counts and normalisation are this run's own, fitted anew")
    theirs = {name: value for name, value in (source.features or {}).items() if features.get(name) != value}
    for name, value in theirs.items():
        log.warning(
            "init_from was trained on other features: features.%s was %s and is %s now",
            shown(name), shown(value), shown(features.get(name)),
        )  # fmt: skip
    _warn_if_heard(source.path, recordings)


def check_frozen(network: nn.Module, fitted: Fitted, num_classes: int, head: bool = True) -> None:
    """Refuse to freeze what the source gave no values: it would stay as it was drawn.

    Args:
        network: Whose parameters that do not learn have ``requires_grad`` False.
        fitted: What became of its tensors.
        num_classes: K.
        head: Whether the output layer is looked at too.

    Raises:
        UserError: If such a parameter is frozen.
    """
    last = {id(parameter) for parameter in output_layer(network, num_classes).parameters()}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad or name in fitted.names or (not head and id(parameter) in last):
            continue
        raise UserError(
            f"layers.freeze keeps {name} as it is, but init_from has no values for it "
            f"({fitted.rest.get(name, 'not there')}): it would stay random. Choose the model and the features that the "
            f"weights were trained with, or freeze less."
        )


def _table(fitted: Fitted, source: Source) -> pd.DataFrame:
    """Return each tensor of the network, then those of the file that it has no use for."""
    rows = [(name, theirs, "fitted") for name, theirs in fitted.names.items()]
    rows += [(name, "", f"random: {why}") for name, why in fitted.rest.items()]
    taken = set(fitted.names.values())
    rows += [("", name, "not used") for name in source.tensors if name not in taken]
    return pd.DataFrame(rows, columns=["tensor", "of_the_file", "outcome"])


def _warn_if_heard(file: Path, recordings: pd.DataFrame) -> None:
    """Warn of held-out recordings by which the weights of a run were learnt or chosen."""
    known = file.parent.parent / "split.csv"
    if file.parent.name != "checkpoints" or not known.is_file():
        return
    earlier = read_own(known, ("recording_id", "split"))
    stage = dict(zip(earlier.recording_id, earlier.split, strict=True))
    before = recordings.recording_id.map(stage)
    for held_out, learnt in (("val", ("train",)), ("test", ("train", "val"))):
        mine = recordings.split == held_out
        if heard := int((mine & before.isin(learnt)).sum()):
            log.warning(
                "init_from has heard %d of %d %s recordings in its %s split: the figures flatter. Train on its split: "
                "split=file split.path=%s",
                heard, int(mine.sum()), held_out, " or ".join(learnt), shown(known),
            )  # fmt: skip
