"""Vectors that were computed elsewhere, read from a file."""

import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from birdclf.audio.clip import AudioError, Clip
from birdclf.errors import UserError
from birdclf.features.embedders.embedder import LEVEL_FFT, VectorFeatures, level_db
from birdclf.features.embedders.network import Vectors, Windows, content_hash
from birdclf.features.representation import Analysis
from birdclf.features.spectrum import frame_chunks
from birdclf.files import digest
from birdclf.text import printable

log = logging.getLogger(__name__)
RATE_HZ: Final = 32_000
COLUMNS: Final = ("recording_id", "start_s", "end_s", "vector")
JOURNAL, FOLDER = "predict.jsonl", "embeddings"
"""What ``birdclf predict --out DIR --embeddings`` writes: a line for each recording, and a ``.npz`` for each."""
NAMED: Final = 3
"""Most recordings that a message names."""


class PrecomputedVectors(VectorFeatures):
    """Vectors computed elsewhere; the recordings are decoded for the audit and the level alone.

    Args:
        file: A Parquet or ``.npz`` file of ``recording_id``, ``start_s``, ``end_s`` (of the window, in seconds from the
            beginning of the recording) and ``vector``, in any order; or the folder of ``birdclf predict --out DIR
            --embeddings``. That folder's recordings are found by the real path of their sound file, or else by their
            path below the folder that ``predict`` was given, if it is a ``recording_id``; of an interval of a file, the
            windows count whose middle lies in it.
        content_hash: Hash that the content must have; None for any. A checkpoint has it.
        width: Values of a vector; None asks the file. A checkpoint has it.

    Raises:
        UserError: If the file is missing, cannot be read or has another hash, or a vector or time in it cannot be used.
    """

    stored_as: ClassVar = "vectors-1"
    stored_type = "float32"

    def __init__(self, file: str, content_hash: str | None = None, width: int | None = None) -> None:
        self.file = Path(file).expanduser()
        if self.file.exists() or content_hash is None or width is None:
            content_hash = self._checked_hash(content_hash)
        width = _checked_width(self.file, content_hash) if width is None else width
        super().__init__(RATE_HZ, LEVEL_FFT, LEVEL_FFT, width, "repeat")  # new sound is refused: no window is cut
        self.settings: dict[str, Any] = {
            "file": os.path.abspath(self.file),
            "content_hash": content_hash,
            "width": width,
        }
        self.shared: Path | None = None

    def _checked_hash(self, expected: str | None) -> str:
        if not self.file.exists():
            had = f" Its content had the hash {expected}." if expected else ""
            raise UserError(
                f"features.file={self.file} does not exist.{had} Give a Parquet or .npz file of {', '.join(COLUMNS)}, "
                f"or a folder of birdclf predict --out DIR --embeddings."
            )
        found = hash_of(self.file)
        if expected not in (None, found):
            raise UserError(
                f"features.file={self.file} has changed: its content has the hash {found}, and {expected} is needed. "
                f"Bring the vectors of this run back, or train again."
            )
        return found

    def fingerprint(self) -> str:
        """Return a text that changes with the content of the file."""
        return f"{self.stored_as} {self.settings['content_hash']}"

    def begin_store(self, clips: Sequence[Clip], scratch: Path) -> None:
        """Write the vectors of the recordings to ``scratch``, from where all processes map them into memory.

        Raises:
            UserError: If the file is gone or has changed, or no recording has a vector.
        """
        self._checked_hash(self.settings["content_hash"])
        table = read_vectors(self.file)
        held = table.of(clips)
        there = table.windows.recording.unique()
        if held.empty:
            raise UserError(
                f"features.file={self.file} has no vector of any of the {len(clips)} recordings of this source. It has "
                f"those of {_listed(there)}; the source has {_listed([clip.recording_id for clip in clips])}. Name the "
                f"recordings in the file as the source does."
            )
        if len(unknown := np.setdiff1d(there, held.recording.unique())):
            log.warning(
                "%s has vectors of %d recordings that this source does not have: %s",
                printable(self.file), len(unknown), printable(_listed(unknown)),
            )  # fmt: skip
        held[["recording_id", "start_s", "end_s"]].to_parquet(scratch / WINDOWS)
        shape = (len(held), self.n_bands)
        vectors = np.lib.format.open_memmap(scratch / VECTORS, "w+", np.float32, shape)
        np.take(table.vectors, held.row, axis=0, out=vectors, mode="clip")  # in the usual mode numpy makes a copy
        vectors.flush()
        self.shared = scratch

    def analyse_recording(self, recording_id: str, blocks: Iterable[Tensor]) -> Iterator[Analysis]:
        """Yield the vectors of a recording, in the order of their begin, with the level of their windows.

        Raises:
            AudioError: If the recording has no vector, or one that begins after its end.
        """
        assert self.shared is not None, "begin_store comes first"
        chunks = frame_chunks(blocks, LEVEL_FFT, LEVEL_FFT, centred=False)
        levels = [level_db(chunk.unfold(0, LEVEL_FFT, LEVEL_FFT), RATE_HZ) for chunk in chunks]
        table = _shared(self.shared)
        if (rows := table.rows.get(recording_id)) is None:
            raise AudioError(f"has no vector in {self.file}", "no_vector")
        power = 10 ** (torch.cat(levels or [torch.full((1,), -100.0)]).double().numpy() / 10)  # of each frame
        start, end = (times[rows] * (RATE_HZ / LEVEL_FFT) for times in (table.start_s, table.end_s))  # in frames
        if start[-1] >= len(power) + 1:
            raise AudioError(
                f"has a vector in {self.file} that begins at {table.start_s[rows][-1]:g} s, after its end", "no_vector"
            )
        first = np.minimum(start.astype(np.int64), len(power) - 1)
        last = np.clip(np.ceil(end).astype(np.int64), first + 1, len(power))
        sums = np.concatenate([[0.0], np.cumsum(power)])
        level = 10 * np.log10(np.maximum((sums[last] - sums[first]) / (last - first), 1e-10))
        yield Analysis(torch.from_numpy(table.vectors[rows].T), torch.from_numpy(level).float())

    def embed(self, windows: Windows) -> Vectors:
        """Refuse new sound.

        Raises:
            UserError: Always.
        """
        raise UserError(
            f"The features are vectors that were computed elsewhere ({self.file}), so they cannot be computed for new "
            f"sound. birdclf evaluate works without; for more, train with the embedder itself: features=birdnet, perch "
            f"or embedder."
        )

    def check_new_sound(self) -> None:
        """Refuse new sound.

        Raises:
            UserError: Always.
        """
        self.embed(np.empty((0, 0), np.float32))


WINDOWS, VECTORS = "windows.parquet", "vectors.npy"


class _Shared(NamedTuple):
    """What :meth:`PrecomputedVectors.begin_store` wrote."""

    rows: dict[str, NDArray[np.int64]]  # of each recording, by begin
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    vectors: Vectors  # mapped into memory


@lru_cache(maxsize=1)
def _shared(scratch: Path) -> _Shared:
    windows, vectors = pd.read_parquet(scratch / WINDOWS), np.load(scratch / VECTORS, mmap_mode="r")
    rows = windows.groupby("recording_id").indices
    return _Shared(rows, windows.start_s.to_numpy(), windows.end_s.to_numpy(), vectors)  # type: ignore[arg-type]


def hash_of(file: Path) -> str:
    """Return the hash of the content of a file, or of the folder of ``predict``."""
    if not file.is_dir():
        return content_hash(file)
    parts = [file / JOURNAL, *sorted((file / FOLDER).rglob("*.npz"))]
    return digest(
        "".join(f"{part.relative_to(file)} {content_hash(part)}\n" for part in parts if part.is_file()).encode()
    )


@lru_cache
def _checked_width(file: Path, content: str) -> int:
    """Return the width of the vectors in a file, all of which is checked once per process."""
    return int(read_vectors(file).vectors.shape[1])


class VectorTable(NamedTuple):
    """Vectors in a file.

    Attributes:
        windows: One row per vector: ``recording``, ``start_s`` and ``end_s``, sorted by the first two.
        vectors: ``(N, E)``.
        names: In the folder of ``predict``, each recording by the real path of its sound file; else None.
    """

    windows: pd.DataFrame
    vectors: Vectors
    names: dict[str, str] | None = None

    def of(self, clips: Sequence[Clip]) -> pd.DataFrame:
        """Return the windows of some recordings, by ``recording_id`` and begin, with the ``row`` of each vector."""
        table = pd.DataFrame(clips_of(clips, self.names), columns=["recording_id", "recording", "begin_s", "limit_s"])
        held = table.merge(self.windows.assign(row=np.arange(len(self.windows))), on="recording")
        held = held[(held.start_s + held.end_s).between(2 * held.begin_s, 2 * held.limit_s, inclusive="left")]
        held = held.assign(start_s=(held.start_s - held.begin_s).clip(lower=0), end_s=held.end_s - held.begin_s)
        return held.sort_values(["recording_id", "start_s"], kind="stable", ignore_index=True)


def clips_of(clips: Sequence[Clip], names: dict[str, str] | None) -> list[tuple[str, str, float, float]]:
    """Return id, name in the file, begin and end of each recording, in the time of the file's windows."""
    if names is None:
        return [(clip.recording_id, clip.recording_id, 0.0, np.inf) for clip in clips]
    own = [names.get(os.path.realpath(clip.path), clip.recording_id) for clip in clips]
    return [(clip.recording_id, name, clip.start_s, clip.end_s) for clip, name in zip(clips, own, strict=True)]


def read_vectors(file: Path) -> VectorTable:
    """Read and check a file of vectors, or a folder of ``birdclf predict --out DIR --embeddings``.

    Raises:
        UserError: If it is no such file, a column is missing, widths differ, a vector is not finite, or a window ends
            before it begins.
    """
    if file.is_dir():
        table = _read_folder(file)
    elif file.suffix.lower() == ".parquet":
        table = _read_parquet(file)
    elif file.suffix.lower() == ".npz":
        table = _read_npz(file)
    else:
        raise UserError(
            f"features.file={file} is no file of vectors that is known: it must end in .parquet or .npz, or be the "
            f"folder of birdclf predict --out DIR --embeddings."
        )
    windows, vectors = table.windows, table.vectors
    if vectors.size == 0:
        raise UserError(f"features.file={file} holds no vector. Give another file.")
    start, end = (windows[name].to_numpy(dtype=np.float64) for name in ("start_s", "end_s"))
    bad = ~((start >= 0) & (start < end) & (end < np.inf))
    if bad.any():
        row = windows[bad].iloc[0]
        raise UserError(
            f"{file}: {int(bad.sum())} windows do not end after they begin, at 0 s or later, first {row.recording!r}, "
            f"{row.start_s:g} to {row.end_s:g} s. Correct start_s and end_s."
        )
    finite = np.asarray(np.isfinite(vectors).all(axis=1))
    if not finite.all():
        names = windows.recording[~finite].unique()
        raise UserError(
            f"{file}: {int((~finite).sum())} vectors of {len(names)} recordings hold a value that is not finite: "
            f"{_listed(names)}. Compute them again, or leave them out."
        )
    twice = windows.duplicated(["recording", "start_s", "end_s"]).to_numpy()
    if twice.any():
        row = windows[twice].iloc[0]
        raise UserError(
            f"{file}: {int(twice.sum())} windows are there twice, first {row.recording!r}, {row.start_s:g} to "
            f"{row.end_s:g} s. Leave one vector for each."
        )
    order = np.lexsort((start, windows.recording.to_numpy(dtype=str)))
    if not (np.diff(order) == 1).all():
        windows, vectors = windows.iloc[order].reset_index(drop=True), vectors[order]
    return VectorTable(windows, vectors, table.names)


def _read_parquet(file: Path) -> VectorTable:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        _check_columns(pq.read_schema(file).names, file)
        table = pq.read_table(file, columns=list(COLUMNS)).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error
    for name in COLUMNS:
        if count := table[name].null_count:
            raise UserError(f"{file}: {count} cells of the column {name} are empty. Fill them, or leave the rows out.")
    ids = table["recording_id"].to_pandas().astype(str)
    try:
        _check_widths(ids, pc.list_value_length(table["vector"]).to_numpy(), file)
        values = pc.list_flatten(table["vector"]).to_numpy()
    except pa.ArrowException as error:
        raise UserError(
            f"{file}: the column vector is of {table['vector'].type}; it must be lists of numbers."
        ) from error
    times = {name: table[name].to_pandas() for name in ("start_s", "end_s")}
    return _as_table({"recording": ids, **times}, values.reshape(len(ids), -1) if len(ids) else values, file)


def _read_npz(file: Path) -> VectorTable:
    arrays = _arrays(file, COLUMNS)
    columns = {"recording": arrays["recording_id"], "start_s": arrays["start_s"], "end_s": arrays["end_s"]}
    return _as_table(columns, arrays["vector"], file)


def _read_folder(folder: Path) -> VectorTable:
    names: dict[str, str] = {}
    try:
        for line in (folder / JOURNAL).read_bytes().splitlines():
            values = json.loads(line)
            names[os.path.realpath(str(values["file"]))] = str(values["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"features.file={folder} is no folder of birdclf predict --out DIR --embeddings: {folder / JOURNAL} cannot "
            f"be read. Give that folder itself."
        ) from error
    parts: list[VectorTable] = []
    for name in names.values():
        part = folder / FOLDER / f"{printable(name)}.npz"
        if part.is_file():
            arrays = _arrays(part, ("start_s", "end_s", "embeddings"))
            ids = np.full(len(arrays["start_s"]), name)
            columns = {"recording": ids, "start_s": arrays["start_s"], "end_s": arrays["end_s"]}
            parts.append(_as_table(columns, arrays["embeddings"], part))
    if not parts:
        raise UserError(f"{folder / FOLDER} holds no vectors. Give birdclf predict --out DIR the option --embeddings.")
    windows = pd.concat([part.windows for part in parts], ignore_index=True)
    widths = np.repeat([part.vectors.shape[1] for part in parts], [len(part.vectors) for part in parts])
    _check_widths(windows.recording, widths, folder)
    return VectorTable(windows, np.concatenate([part.vectors for part in parts]), names)


def _arrays(file: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return arrays of a ``.npz`` file, none of which runs code when it is read."""
    try:
        with np.load(file, allow_pickle=False) as content:
            _check_columns(content.files, file, names)
            return {name: content[name] for name in names}
    except (OSError, ValueError, BadZipFile, EOFError, AttributeError) as error:
        raise _unreadable(file, error) from error


def _as_table(windows: dict[str, Any], vectors: NDArray[Any], file: Path) -> VectorTable:
    """Return the table of some columns and vectors."""
    lengths = {len(column) if np.ndim(column) == 1 else -1 for column in windows.values()}
    numbers = np.issubdtype(vectors.dtype, np.floating) or np.issubdtype(vectors.dtype, np.integer)
    if lengths != {len(vectors)} or (vectors.ndim != 2 and len(vectors)) or not numbers:
        raise UserError(
            f"{file}: vectors must be numbers (N, E) and the other columns (N,); vectors are {vectors.dtype} "
            f"{vectors.shape}, {', '.join(f'{name} {np.shape(column)}' for name, column in windows.items())}."
        )
    try:
        table = pd.DataFrame(windows).astype({"recording": str, "start_s": float, "end_s": float})
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: start_s and end_s must be numbers of seconds: {error}.") from error
    with np.errstate(over="ignore"):  # refused as not finite
        return VectorTable(table, vectors.astype(np.float32, copy=False))


def _check_columns(there: Sequence[str], file: Path, needed: Sequence[str] = COLUMNS) -> None:
    if missing := [name for name in needed if name not in there]:
        raise UserError(
            f"{file} lacks {', '.join(missing)}; it has {', '.join(there) or 'nothing'}. {', '.join(needed)} are "
            f"needed."
        )


def _check_widths(ids: "pd.Series[str]", widths: NDArray[Any], file: Path) -> None:
    """Refuse vectors of several widths."""
    if len(several := np.unique(widths)) > 1:
        first = "; ".join(f"{width} values in {_listed(ids[widths == width].unique())}" for width in several[:NAMED])
        raise UserError(f"{file} has vectors of {len(several)} widths: {first}. All must be of one embedder.")


def _unreadable(file: Path, error: Exception) -> UserError:
    why = " ".join(str(error).split())[:200]
    return UserError(
        f"features.file={file} cannot be read: {why}. Give a Parquet or .npz file of {', '.join(COLUMNS)}; in .npz "
        f"the ids are texts (ids.astype(str)), and vectors of one width one array (N, E)."
    )


def _listed(ids: Iterable[Any]) -> str:
    """Return the first ids, and how many more there are."""
    names = [str(name) for name in ids]
    return ", ".join(map(repr, names[:NAMED])) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
