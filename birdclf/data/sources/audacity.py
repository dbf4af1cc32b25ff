"""Audacity label tracks beside recordings: each label is a clip."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Unpack

from birdclf.data.catalog import Catalog, Selection, select
from birdclf.data.sources.annotations import (
    BESIDE,
    Annotation,
    AnnotationIndex,
    clips_catalog,
    interval,
    lines_of,
    seconds,
)
from birdclf.data.tree import data_root
from birdclf.errors import UserError
from birdclf.text import printable

log = logging.getLogger(__name__)


def audacity_catalog(root: str, **selection: Unpack[Selection]) -> Catalog:
    r"""Return the catalog of the labels in ``<name>.txt`` beside the recording ``<name>.*``, at any depth.

    A line is ``start<TAB>end<TAB>label`` in seconds, in UTF-8 and without a header; a line that begins with a backslash
    holds the frequency range of the previous label (columns ``low_hz`` and ``high_hz``). A row's species is its label,
    its group the recording, its id ``<path>#<start>-<end>``. Labels without text or length are skipped.

    Args:
        root: Folder of recordings and their label files; hidden files and folders are skipped.
        **selection: Arguments of :func:`birdclf.data.catalog.select`.

    Raises:
        UserError: If the folder does not exist or holds no label with a recording, or a line cannot be read.
    """
    base = data_root(root, BESIDE)
    index = AnnotationIndex(base)
    found: dict[Path, list[Annotation]] = {}
    alone = []
    for file in index.texts:
        recording = index.recording_of(file)
        if recording is None:
            alone.append(file)
        else:
            found[file] = list(_labels(file, recording))
    if alone:
        log.warning(
            "%d .txt files have no recording of their name and are skipped, first %s",
            len(alone),
            printable(alone[0]),
        )
    hint = "expected <name>.txt beside <name>.wav, with lines of start<TAB>end<TAB>label"
    return select(clips_catalog(base, found, f"Audacity {base.name}", hint), **selection)


def _labels(file: Path, recording: Path) -> Iterator[Annotation]:
    last: Annotation | None = None
    for number, line in enumerate(lines_of(file), start=1):
        where = f"{file}: line {number}"
        words = line.split("\t", 2)
        if not line.strip():
            continue
        if line.startswith("\\"):
            if last is None or len(words) < 3:
                raise UserError(f"{where} is a frequency range without a label or a value. Correct or delete the line.")
            low, high = (math.nan if value < 0 else value for value in (seconds(w, where) for w in words[1:]))
            last = Annotation(last.file, last.start_s, last.end_s, last.species, low, high)
            continue
        if last:
            yield last
        if len(words) < 2:
            raise UserError(f"{where} is {line[:60]!r}; an Audacity label is start<TAB>end<TAB>label, in seconds.")
        label = words[2].strip() if len(words) > 2 else ""
        last = Annotation(recording, *interval(words[0], words[1], where), label)
    if last:
        yield last
