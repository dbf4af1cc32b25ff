"""Recordings in which none of the classes is heard, beside those of a source."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from birdclf.audio.clip import Clip, Reader, Sound
from birdclf.audio.files import FileReader
from birdclf.audio.formats import ENDINGS, is_sound
from birdclf.data.listing import listed
from birdclf.data.tree import real_paths, stamp_of, walk
from birdclf.errors import UserError
from birdclf.targets import NONE

PREFIX: Final = "background/"
"""Begins the id of every background recording."""


@dataclass(frozen=True)
class JoinedReader:
    """Opens background recordings from their files, and all others with the source's reader."""

    source: Reader

    def open(self, clip: Clip) -> AbstractContextManager[Sound]:
        """Return the clip's sound, for a ``with`` statement.

        Raises:
            AudioError: If this clip cannot be used.
        """
        reader = FileReader() if clip.recording_id.startswith(PREFIX) else self.source
        return reader.open(clip)

    def fingerprint(self) -> str:
        """Return a text that changes whenever a setting of either reader changes the sound."""
        return f"{self.source.fingerprint()}+{FileReader().fingerprint()}"


def read_background(background: str) -> pd.DataFrame:
    """Return the rows of background recordings, with the columns of a catalog.

    Of a folder all sound files at any depth, whatever its folders are called; a file's group is the folder below it
    that holds the file, or none. Of a table the files that it lists, with their intervals and groups; its ``species``,
    if it has them, do not matter.

    Args:
        background: The folder, or a table as for ``data=manifest`` with at least the column ``path``.

    Raises:
        UserError: If there is neither, it holds no recording, or it cannot be read.
    """
    base = Path(background).expanduser()
    if os.path.isdir(base):
        table = _below(base)
        if table.empty:
            raise UserError(f"data.background={background} holds no recording with one of the endings {ENDINGS}.")
    elif os.path.isfile(base):
        table = listed(background, "data.background", ("path",))
        if table.empty:
            raise UserError(f"data.background={background} lists no recording. Add some, or set it to null.")
    else:
        raise UserError(
            f"data.background={background} does not exist. Point it at a folder of recordings without any of the "
            f"classes, or at a .csv or .parquet table of them with the column path."
        )
    ids = PREFIX + table.recording_id.astype(str)
    return table.drop(columns="labels", errors="ignore").assign(recording_id=ids, species=NONE)


def _below(base: Path) -> pd.DataFrame:
    rows, files = [], []
    for folder, names in walk(base, is_sound):
        below = Path(folder).relative_to(base).as_posix()
        group = "" if below == "." else PREFIX + below
        rows += [(f"{'' if below == '.' else f'{below}/'}{name}", group) for name in names]
        files += [os.path.join(folder, name) for name in names]
    table = pd.DataFrame(rows, columns=["recording_id", "group"])
    return table.assign(path=real_paths(files), stamp=[stamp_of(file) for file in files])
