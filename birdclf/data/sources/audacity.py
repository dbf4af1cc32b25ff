"""Audacity label tracks beside recordings: each label is a clip."""

import logging
from pathlib import Path
from typing import Unpack

from birdclf.data.annotations import Annotation, AnnotationIndex, audacity_annotations
from birdclf.data.catalog import Catalog, Selection, select
from birdclf.data.sources.clips import BESIDE, clips_catalog
from birdclf.data.tree import data_root
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
            found[file] = list(audacity_annotations(file, recording))
    if alone:
        log.warning(
            "%d .txt files have no recording of their name and are skipped, first %s",
            len(alone),
            printable(alone[0]),
        )
    hint = "expected <name>.txt beside <name>.wav, with lines of start<TAB>end<TAB>label"
    return select(clips_catalog(base, found, f"Audacity {base.name}", hint), **selection)
