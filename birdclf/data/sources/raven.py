"""Raven selection tables beside recordings: each selection is a clip."""

from typing import Unpack

from birdclf.data.annotations import BEGIN, END, AnnotationIndex, raven_annotations
from birdclf.data.catalog import Catalog, Selection, select
from birdclf.data.sources.clips import BESIDE, clips_catalog
from birdclf.data.tree import data_root


def raven_catalog(root: str, annotation: str | None = None, **selection: Unpack[Selection]) -> Catalog:
    """Return the catalog of the selections in Raven tables (``*.txt``) beside recordings, at any depth.

    ``a.txt``, ``a.selections.txt`` and ``a.Table.1.selections.txt`` belong to ``a.wav``. A table with the columns
    ``Begin File`` or ``Begin Path`` may belong to several recordings, found by name beside it or anywhere below
    ``root``; ``File Offset (s)`` is then the start of a selection, since ``Begin Time (s)`` is cumulative over the
    files. A selection's rows in several views are one clip. A row's species is its annotation, its group the recording,
    its id ``<path>#<start>-<end>``; ``low_hz`` and ``high_hz`` are its frequency range. Selections without annotation
    or length are skipped, as are text files that are not tables. A selection whose recording is missing stays in the
    catalog; the audit sets it aside.

    Args:
        root: Folder of recordings and selection tables; hidden files and folders are skipped.
        annotation: Column with the species' name, in any case; ``None`` takes the first of Species, Common Name,
            Scientific Name, Species Code, Annotation, Label, Tags and Class that a table has.
        **selection: Arguments of :func:`birdclf.data.catalog.select`.

    Raises:
        UserError: If the folder does not exist or holds no annotated selection, a table lacks a necessary column or has
            two of one name, a line cannot be read, or a file's name matches several recordings.
    """
    base = data_root(root, BESIDE)
    index = AnnotationIndex(base)
    tables = {file: raven_annotations(file, index, annotation) for file in index.texts}
    found = {file: annotations for file, annotations in tables.items() if annotations is not None}
    hint = f"expected Raven tables such as <name>.selections.txt beside <name>.wav, with {BEGIN!r} and {END!r}"
    return select(clips_catalog(base, found, f"Raven {base.name}", hint), **selection)
