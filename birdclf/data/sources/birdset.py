"""BirdSet's published files: Parquet metadata and shards of recordings (Rauch et al., 2024, arXiv:2403.10380)."""

import gzip
import json
import logging
import os
import re
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Unpack

import pandas as pd
import pyarrow.parquet

from birdclf.audio.files import FileReader
from birdclf.data.catalog import GRADES, PUBLISHED, Catalog, Selection, select
from birdclf.data.tree import data_root, real_paths, stamp_of, walk
from birdclf.errors import UserError
from birdclf.files import lock_file, refuse_pointer, writing_to
from birdclf.targets import NONE
from birdclf.text import printable

log = logging.getLogger(__name__)
RATE_HZ: Final = 32_000
TRAIN_ONLY: Final = ("XCM", "XCL")
CLASSES: Final = ("label", "species", "exclude")
"""Settings that choose classes; the others choose train recordings."""
TAXA: Final = ("genus", "species_group", "order")
DROPPED: Final = ("recordist", "start_time", "end_time", "low_freq", "high_freq", "length")
CODES: Final = ("ebird_code", "ebird_code_multilabel", "ebird_code_secondary")


def birdset_catalog(
    root: str, config: str = "HSN", allow_absent: bool = False, **selection: Unpack[Selection]
) -> Catalog:
    """Return the catalog of a BirdSet configuration: focal train recordings, and 5 s test segments of soundscapes.

    A row's species is its eBird code, ``none`` for a segment without any; ``labels`` are all codes of the segment or
    recording, of the classes of this configuration. A train recording's group is the recordist, a segment's the
    soundscape that it was cut from. ``published_split`` is ``train`` or ``test``: splits that are drawn keep the
    segments for test and draw validation from the train recordings. ``min_quality``, ``max_per_species`` and
    ``secondary`` concern the train recordings alone. Shards are unpacked once, into a folder of their name beside them.

    Args:
        root: Folder of the configurations, with ``HSN/HSN_metadata_train.parquet``,
            ``HSN/HSN_metadata_test_5s.parquet``, ``HSN/HSN_train_shard_0001.tar.gz``,
            ``HSN/HSN_test5s_shard_0001.tar.gz`` and so on.
        config: Name of the configuration. XCM and XCL have train recordings alone.
        allow_absent: Allow some of the recordings, not all, to be missing; the audit sets them aside.
        **selection: Arguments of :func:`birdclf.data.catalog.select`.

    Raises:
        UserError: If metadata, shards or recordings are missing or damaged, or a shard cannot be unpacked.
    """
    base = data_root(root, "a folder of BirdSet configurations")
    folder = base / str(config)
    if not folder.is_dir():
        raise UserError(f"data.root={root} has no folder {config} (data.config). {_fetch(root, config)}")
    whole = config in TRAIN_ONLY
    parts = [("train", f"{config}_metadata{'' if whole else '_train'}", f"{config}{'' if whole else '_train'}_shard")]
    if not whole:
        parts.append(("test_5s", f"{config}_metadata_test_5s", f"{config}_test5s_shard"))
    tables = {part: _metadata(folder / f"{name}.parquet", root, config) for part, name, _ in parts}
    train = tables["train"]
    classes = {*train.ebird_code} - {""}
    classes.update(*(tables["test_5s"].ebird_code_multilabel if "test_5s" in tables else ()))
    rows = []
    for part, _, shards in parts:
        table = tables[part]
        files = _unpacked(folder, shards, root, config)
        names = table.index
        absent = [name for name in names if name not in files]
        if absent and not (allow_absent and len(absent) < len(names)):
            raise UserError(
                f"{folder}: {len(absent)} of {len(names)} recordings of {part} are in none of the shards that are "
                f"there, first {absent[0]}. {_fetch(root, config)} Or go on without them: data.allow_absent=true."
            )
        rows.append(_rows(table, part, [files.get(name, folder / shards / name) for name in names], classes))
    if not whole:
        for taxon in set(TAXA).intersection(train):
            of = dict(zip(train.ebird_code, train[taxon], strict=True))
            rows[1][taxon] = rows[1].species.map(of).fillna("")
    both = Catalog(pd.concat(rows, ignore_index=True), FileReader(), f"BirdSet {config}")
    both = select(both, **{key: selection.pop(key) for key in CLASSES if key in selection})  # type: ignore[arg-type]
    is_train = both.table[PUBLISHED] == "train"
    chosen = select(both.subset(is_train), **selection)
    table = pd.concat([chosen.table, both.table[~is_train]], ignore_index=True)
    if "masked" in table:
        table["masked"] = table.masked.map(lambda names: names if isinstance(names, tuple) else ())
    return replace(chosen, table=table)


def _rows(table: pd.DataFrame, part: str, files: list[Path], classes: set[str]) -> pd.DataFrame:
    """Return the catalog's rows of the train recordings or of the test segments."""
    is_train = part == "train"
    names = list(table.index)
    heard = [[*one, *two] for one, two in zip(table.ebird_code_multilabel, table.ebird_code_secondary, strict=True)]
    if is_train:
        species = [code or NONE for code in table.ebird_code]
        group = table["recordist"].fillna("").astype(str).tolist() if "recordist" in table else [""] * len(names)
    else:
        species = [next(iter(codes), NONE) for codes in table.ebird_code_multilabel]
        group = [re.sub(r"_\d+_\d+$", "", Path(name).stem) for name in names]  # HSN_001_20150708_061805_000_005.ogg
    made: dict[str, Any] = {
        "recording_id": [f"{part}/{name}" for name in names],
        "species": species,
        "labels": [
            tuple(sorted(({own, *others} & classes) - {NONE})) for own, others in zip(species, heard, strict=True)
        ],
        "group": group,
        PUBLISHED: "train" if is_train else "test",
        "path": real_paths(files),
        "stamp": [stamp_of(file) for file in files],
        "sample_rate_hz": RATE_HZ,
    }
    if "quality" in table:
        made["quality"] = table["quality"].map(GRADES).astype(float).to_numpy()
    for name in set(table.columns).difference(made, CODES, DROPPED):
        known = table[name].dropna()
        if len(known) and all(isinstance(value, str) or pd.api.types.is_number(value) for value in known):
            made[{"lat": "latitude", "long": "longitude"}.get(name, name)] = table[name].to_numpy()
    return pd.DataFrame(made)


def _metadata(file: Path, root: str, config: str) -> pd.DataFrame:
    """Return a table of metadata by the recordings' names, its codes as lists of texts."""
    if not file.is_file():
        raise UserError(f"{file} does not exist. {_fetch(root, config)}")
    refuse_pointer(file)
    try:
        schema = pyarrow.parquet.read_schema(file)
        table = pd.read_parquet(file)
    except (ValueError, OSError) as error:
        raise UserError(f"{file} cannot be read as a table: {error}. Download it again.") from error
    if table.index.name != "filepath":
        if "filepath" not in table:
            raise UserError(f"{file} lacks the column filepath; it has {', '.join(map(str, table.columns))}.")
        table = table.set_index("filepath")
    table.index = pd.Index([str(path).replace("\\", "/").rpartition("/")[2] for path in table.index], name="filepath")
    table = table[~table.index.duplicated()]
    if "ebird_code_multilabel" not in table and "ebird_code" not in table:
        raise UserError(f"{file} lacks the column ebird_code; it has {', '.join(map(str, table.columns))}.")
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    for column in CODES:
        one = features.get(column) or {}
        classes = (one.get("feature") or one).get("names") or []
        given = table[column] if column in table else pd.Series([None] * len(table), index=table.index)
        lists = [_codes(value, classes, file, column) for value in given]
        first = [codes[0] if codes else "" for codes in lists]
        table = table.assign(**{column: pd.Series(first if column == CODES[0] else lists, index=table.index)})
    return table


def _codes(value: Any, classes: list[str], file: Path, column: str) -> list[str]:
    """Return the codes in a cell: texts, or numbers of classes whose names the file holds."""
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return []
    codes = [value] if pd.api.types.is_scalar(value) else list(value)
    try:
        return [code if isinstance(code, str) else classes[int(code)] for code in codes]
    except (IndexError, ValueError, TypeError) as error:
        raise UserError(
            f"{file}: {column} holds {codes[:5]}, numbers of classes whose names it does not have. Download the "
            f"published file again."
        ) from error


def _unpacked(folder: Path, shards: str, root: str, config: str) -> dict[str, Path]:
    """Unpack the shards that are not unpacked yet, and return the recordings in them by name."""
    archives = sorted(folder.glob(f"{shards}_*.tar.gz"))
    folders = {folder / archive.name.removesuffix(".tar.gz") for archive in archives}
    folders |= {path for path in folder.glob(f"{shards}_*") if path.is_dir()}
    if not folders:
        raise UserError(f"{folder} has no {shards}_0001.tar.gz. {_fetch(root, config)}")
    for number, archive in enumerate(archives, start=1):
        _unpack(archive, folder / archive.name.removesuffix(".tar.gz"), f"{number} of {len(archives)}")
    return {name: Path(where, name) for one in sorted(folders) for where, names in walk(one) for name in names}


def _unpack(archive: Path, target: Path, which: str) -> None:
    """Unpack a shard whole into a folder of its name; a part that a killed run unpacked is kept and completed."""
    if target.is_dir():
        return
    refuse_pointer(archive)
    part = target.with_name(f".{target.name}.part")
    with writing_to(target.parent, "what is unpacked is kept."), lock_file(target.with_name(f".{target.name}.lock")):
        if target.is_dir():  # another process unpacked it
            return
        log.info("unpacking %s (%s)", printable(archive), which)
        part.mkdir(exist_ok=True)
        try:
            with tarfile.open(archive, "r:gz") as opened:
                for member in opened:
                    there = part / member.name
                    if not (there.is_file() and there.stat().st_size == member.size):
                        opened.extract(member, part, filter="data")
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{archive} cannot be unpacked: {error}. Download it again.") from error
        os.rename(part, target)


def _fetch(root: str, config: str) -> str:
    return (
        f"Fetch the files of the data set DBD-research-group/BirdSet on Hugging Face with: huggingface-cli download "
        f"DBD-research-group/BirdSet --repo-type dataset --revision data --include '{config}/*' --local-dir {root}."
    )
