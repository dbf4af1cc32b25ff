"""Data module: batches from catalog, features, split and windows."""

import logging
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from birdclf.audio.mixing import Mix
from birdclf.audit.rules import Rules
from birdclf.checks import most_processes, whole
from birdclf.data.catalog import Catalog
from birdclf.data.dataset import Batch, DrawSampler, Part, ResumableLoader, WindowDataset, as_fetched, cut
from birdclf.data.label_names import says_nothing
from birdclf.data.labels import Targets, class_list, count_classes, targets_of
from birdclf.data.samplers import Natural, Sampler, order_with_background
from birdclf.data.splits import STAGES, Split
from birdclf.data.windows import WindowPolicy, window_starts
from birdclf.errors import UserError
from birdclf.features.representation import Representation
from birdclf.store.open import FeatureStore, open_store
from birdclf.targets import NONE, Task
from birdclf.text import printable

LEAKS = {
    "recordist": "share a recordist",
    "audio": "share the decoded audio",
    "recordist_and_day": "share recordist and day",
}


def leak_report(table: pd.DataFrame) -> pd.DataFrame:
    """Count the validation and test recordings that share recordist, sound or day with a training recording.

    Empty values, and dates without a day (``2010-06-00``), are not shared.

    Args:
        table: One row per recording with ``split`` (train, val or test) and, as far as known, ``group`` (recordist or
            individual), ``audio_hash`` (of the decoded sound) and ``date`` (which begins with the day).

    Returns:
        One row for each stage (val, test) and leak: ``split``, ``leak`` (``recordist``, ``audio``,
        ``recordist_and_day``), ``recordings`` (in the stage), ``known`` (those with a value), ``shared`` (with a
        training recording) and ``share`` (``shared / recordings``; 0 for an empty stage). A leak without its column has
        no row.

    Raises:
        KeyError: If the table has no column ``split``.
    """
    rows = []
    values = _shareable(table)
    for stage in ("val", "test"):
        inside = table["split"] == stage
        for leak, value in values.items():
            shared = int(value[inside].isin(value[table["split"] == "train"].dropna().unique()).sum())
            recordings = int(inside.sum())
            rows.append(
                (stage, leak, recordings, int(value[inside].notna().sum()), shared, shared / max(recordings, 1))
            )
    return pd.DataFrame(rows, columns=["split", "leak", "recordings", "known", "shared", "share"])


def describe(report: pd.DataFrame) -> str:
    """Return a leak report as a sentence, for the log."""
    known = report[report.groupby("leak").known.transform("sum") > 0]
    if known.empty:
        return "leaks: unknown, since no recording has a recordist (group) or an audio hash"
    sentences = []
    for stage in ("test", "val"):
        rows = known[known.split == stage]
        parts = [
            f"{row.shared:,} ({row.share:.1%}) {LEAKS[str(row.leak)]}"
            for row in rows.sort_values("leak", key=lambda leak: leak.map(list(LEAKS).index)).itertuples()
        ]
        sentences.append(f"of {rows.recordings.iloc[0]:,} {stage} recordings, {', '.join(parts)} with a training one")
    return "leaks: " + "; ".join(sentences)


def _shareable(table: pd.DataFrame) -> "dict[str, pd.Series[int]]":
    """Return the values that recordings may share as numbers by leak, missing where unknown."""
    values = {}
    if "group" in table.columns:
        values["recordist"] = _numbers(table.group)
    if "audio_hash" in table.columns:
        values["audio"] = _numbers(table.audio_hash)
    if "group" in table.columns and "date" in table.columns:
        day = table.date.astype("string").str.strip().str[:10]
        known = day.str.contains("[1-9]", regex=True).fillna(False) & ~day.str.endswith("-00").fillna(False)
        group, number = values["recordist"], _numbers(day.where(known))
        values["recordist_and_day"] = group * (int(number.max()) + 1 if number.notna().any() else 1) + number
    return values


def _numbers(column: "pd.Series[str]") -> "pd.Series[int]":
    text = column.astype("string").str.strip()
    codes = pd.factorize(text.where(text.fillna("") != ""))[0]
    return pd.Series(codes, index=column.index).astype("Int64").where(codes >= 0)


log = logging.getLogger(__name__)


class RecordingDataModule(pl.LightningDataModule):
    """Batches of labelled windows, with the class list and the class counts of the train split.

    Args:
        features: Feature module; :meth:`prepare` fits its normalisation on the train split.
        batch_size: Recordings per batch, 1 or more.
        num_workers: Processes that fetch batches; 0 fetches in this process.
        store_workers: Processes that build the store; None for one per core.
        sampler: Draws the recordings of a training epoch; each of them once if not given.
        task: Whether a recording has one class or a set of classes, which may be empty.

    Raises:
        UserError: If ``batch_size`` or ``num_workers`` is out of range.
    """

    def __init__(
        self,
        catalog: Catalog,
        features: Representation,
        split: Split,
        window: WindowPolicy,
        audio: Mix | None = None,
        audit: Rules | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        store_dir: str | Path = "outputs/store",
        store_workers: int | None = None,
        seed: int = 1,
        sampler: Sampler | None = None,
        task: Task = "single_label",
    ) -> None:
        super().__init__()
        whole("loader.batch_size", batch_size, 1)
        whole("loader.num_workers", num_workers, 0, most_processes())
        self.source, self.features, self.split, self.window = catalog, features, split, window
        self.mix, self.rules = audio or Mix(), audit or Rules()
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.store_dir, self.store_workers = Path(store_dir), store_workers
        self.sampler: Sampler = sampler or Natural()
        self.part = Part()
        self.task = task
        self.store: FeatureStore
        self.audit: pd.DataFrame
        self.table: pd.DataFrame
        self.left_out: pd.DataFrame
        self.classes: tuple[str, ...]
        self.targets: Targets

    def prepare(self) -> None:
        """Build or open the store, split the usable recordings, and fit the normalisation on the train split.

        Raises:
            UserError: If fewer than two species, or no recording for validation or test, are left.
        """
        for kept in ("_train", "_leaks"):
            self.__dict__.pop(kept, None)
        self.store = open_store(self.source, self.features, self.store_dir, self.store_workers, self.mix)
        self.audit = self.rules.judge(self.store.index, self.source.table)
        usable = (self.audit.verdict != "reject").to_numpy()
        if not usable.any():
            first = self.rejected.iloc[0]
            raise UserError(
                f"{self.source.name}: none of the {len(self.source)} recordings can be used; first, "
                f"{first.recording_id} {first.reason}. birdclf prepare with the same data.* and audit.* lists them all."
            )
        if len(self.rejected):
            first = self.rejected.iloc[0]
            log.warning(
                "%d of %d recordings are set aside, first: %s %s. audit.csv in the run folder lists them.",
                len(self.rejected), len(self.source), printable(first.recording_id), printable(first.reason),
            )  # fmt: skip
        seed = self.seed if self.split.seed is None else self.split.seed
        stages = self.split.stages_of(self.source.subset(pd.Series(usable)), seed)
        absent = stages.index.difference(pd.Index(self.source.table.recording_id))
        if len(absent):
            raise UserError(
                f"{self.split} names {len(absent)} recordings that {self.source.name} does not have, first "
                f"{absent[0]!r}. Use the source and the settings that the split was made with."
            )
        table = self.source.table.assign(row=np.arange(len(self.source)))
        measured = {"duration_s": "duration_s", "sample_rate_hz": "native_rate_hz", "audio_hash": "audio_hash"}
        table = table.assign(**{column: self.audit[name] for column, name in measured.items()})
        table["split"] = pd.Series(stages.reindex(table.recording_id).to_numpy(), dtype=stages.dtype).where(usable)
        self.table = table[table.split.notna()].reset_index(drop=True)
        self._subsample(seed)
        self.classes = class_list(self.table, self.task)
        if len(self.classes) < 2:
            raise UserError(
                f"{self.source.name} has {len(self.classes)} species to tell apart"
                f"{': ' + self.classes[0] if self.classes else ''}; a classifier needs at least 2. Each species needs "
                f"split.min_recordings recordings; a folder source needs one folder per species."
            )
        self._check_background()
        self._warn_of_straddling_files()
        self.targets = targets_of(self.table, self.classes, self.task)
        for stage in STAGES:
            if not (self.table.split == stage).any():
                raise UserError(
                    f"{self.source.name}: the {stage} split holds no recording; {len(self.table)} recordings of "
                    f"{len(self.classes)} species are too few for this split. Add recordings or change split.*."
                )
        self.features.fit(self._train_windows())

    def _subsample(self, seed: int) -> None:
        """Keep a part of the train recordings, where the split wants it; :attr:`left_out` has the others."""
        self.left_out = self.table.iloc[:0]
        if not self.split.subsamples:
            return
        kept, none = self.split.subsample(self.table, seed)
        if none:
            log.warning(
                "split.train_fraction=%g would leave %d species without a train recording; one of each is kept: %s",
                self.split.train_fraction, len(none), printable(", ".join(none)),
            )  # fmt: skip
        self.left_out = self.table[~kept]
        self.table = self.table[kept].reset_index(drop=True)

    def _check_background(self) -> None:
        """Say so where no recording without any class is left to train on."""
        given, share = int((self.source.table.species == NONE).sum()), self.source.background_share
        if not given or (self.table.split[self.table.species == NONE] == "train").any():
            return
        said = (
            f"{self.source.name}: none of the {given} recordings without any class (data.background) is in the train "
            f"split: the audit rejects them, they are fewer than split.min_recordings, or the split does not name them."
        )
        if share:
            raise UserError(f"{said} data.background_share={share:g} needs some; set it to null to train without.")
        log.warning("%s", printable(said))

    def _warn_of_straddling_files(self) -> None:
        files = self.table[self.table.path != ""].groupby("path").split.nunique()
        if straddling := int((files > 1).sum()):
            log.warning(
                "%d of %d files have clips in more than one split, so scores are not those on unseen recordings; "
                "split=grouped keeps each file in one split.",
                straddling, len(files),
            )  # fmt: skip

    @property
    def rejected(self) -> pd.DataFrame:
        """Audit rows of the recordings that are set aside."""
        return self.audit[self.audit.verdict == "reject"]

    @property
    def class_counts(self) -> Tensor:
        """``(K,)`` int64 train examples of each class: recordings, or windows if ``window.train=all``."""
        if self.window.train != "all":
            return torch.from_numpy(self.support("train"))
        return torch.from_numpy(count_classes(self._train.target, len(self.classes)))

    @property
    def examples(self) -> int:
        """Train examples of all classes and of none."""
        return len(self._train) if self.window.train == "all" else int((self.table.split == "train").sum())

    def support(self, stage: str) -> NDArray[np.int64]:
        """Return the ``(K,)`` number of recordings of each class in a split."""
        return count_classes(self.targets[(self.table.split == stage).to_numpy()], len(self.classes))

    def leaks(self) -> pd.DataFrame:
        """Return the :func:`leak_report` of the split."""
        return self._leaks

    def summary(self) -> str:
        """Return a few lines on the data, for the log."""
        sizes = self.table.split.value_counts()
        train = self.support("train")
        lines = [
            f"{self.source.name}: {len(self.table):,} recordings of {len(self.classes)} species; "
            f"{sizes['train']:,} train, {sizes['val']:,} val, {sizes['test']:,} test; "
            f"{int(train.min())} to {int(train.max())} train recordings a species"
        ]
        if self.task == "multi_label":
            labels = (self.targets == 1).sum(axis=1)
            lines.append(
                f"{int((labels == 0).sum()):,} recordings of no species, {int((labels > 1).sum()):,} of several"
            )
            if alike := [name for name in self.classes if says_nothing(name)]:
                lines.append(f"taken for a species: {alike[0]}. Call it {NONE} if nothing is heard in its recordings")
        gone = sorted(set(self.source.classes) - {*self.classes, *([NONE] if self.task == "multi_label" else [])})
        if gone:
            lines.append(f"left out, too few usable recordings: {', '.join(gone)}")
        quiet = self.table.split[self.table.species == NONE].value_counts()
        if len(quiet):
            numbers = ", ".join(f"{quiet.get(stage, 0):,} {stage}" for stage in STAGES)
            lines.append(f"background, without any class: {numbers}")
        unseen = [name for name, n in zip(self.classes, self.support("test"), strict=True) if n == 0]
        if unseen:
            lines.append(f"cannot be evaluated, no test recording: {len(unseen)} species ({', '.join(unseen)})")
        if len(self.left_out):
            n = int(train.sum())
            lines.append(
                f"kept of train: {n:,} of {n + len(self.left_out):,} recordings "
                f"(split.train_fraction={self.split.train_fraction:g}, "
                f"split.train_per_species={self.split.train_per_species or 'null'}; left_out.csv has the others)"
            )
        if unassigned := len(self.source) - len(self.rejected) - len(self.left_out) - len(self.table):
            lines.append(f"left out by the split: {unassigned} usable recordings")
        if len(self.rejected):
            lines.append(f"set aside as unusable: {len(self.rejected)} recordings (audit.csv)")
        if doubtful := int((self.audit.verdict == "warn").sum()):
            lines.append(f"used with a warning: {doubtful} recordings (audit.csv)")
        lines.append(describe(self.leaks()))
        return "\n".join(lines)

    def train_dataloader(self) -> ResumableLoader:
        """Return batches of the train split in the order of the sampler, with background at its share."""
        dataset, share = self._train, self.source.background_share
        classes = np.asarray(dataset.target, dtype=np.int64)
        background = (self.source.table.species == NONE).to_numpy()[dataset.rows]
        if self.task == "multi_label":  # a sampler draws by the primary species, of which none is no class to balance
            classes = pd.factorize(self.source.table.species, sort=True)[0].astype(np.int64)[dataset.rows]
            if share is None and self.sampler.balances and background.any():
                share = float(background.mean())
        drawn = partial(self.sampler.order, classes)
        if share is not None:
            drawn = partial(order_with_background, self.sampler, background, share, classes)
        order = DrawSampler(len(dataset), self.seed, self.batch_size, self.part, drawn)
        return ResumableLoader(dataset, order, **self._fetching())

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation split, in the order of the table."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test split, in the order of the table."""
        return self._in_order("test")

    def all_windows(self, stage: str) -> Batch:
        """Return all windows of all recordings of a split, one after the other, in the order of the table."""
        inside = (self.table.split == stage).to_numpy()
        row = self.table.row[inside].to_numpy(dtype=np.int64)
        dataset = WindowDataset(self.store, row, self.targets[inside], "all", self.features.frames, self.seed)
        return dataset.__getitems__(list(range(len(dataset))))

    def _dataset(self, stage: str, policy: str, part: "pd.Index[int] | None" = None) -> WindowDataset:
        chosen = self.table.index[self.table.split == stage] if part is None else part
        row, target = self.table.row[chosen].to_numpy(dtype=np.int64), self.targets[chosen]  # rows are numbered from 0
        return WindowDataset(self.store, row, target, policy, self.features.frames, self.seed, apart=stage == "train")

    @cached_property
    def _train(self) -> WindowDataset:
        return self._dataset("train", self.window.train)

    @cached_property
    def _leaks(self) -> pd.DataFrame:
        return leak_report(self.table)

    def _in_order(self, stage: str) -> DataLoader[Batch]:
        """Return a split in the order of the table, or this process's part of it."""
        whole = self.table.index[self.table.split == stage]
        part = whole[self.part.rank :: self.part.processes]
        dataset = self._dataset(stage, self.window.eval, part)
        return DataLoader(dataset, **self._fetching() | {"batch_size": self.batch_size // self.part.processes})

    def _fetching(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "collate_fn": as_fetched,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": self.num_workers > 0,
            # Each pass draws a seed for the workers; from torch's global generator it would change dropout.
            "generator": torch.Generator(),
        }

    def _train_windows(self) -> Iterator[Tensor]:
        rows = self.table.row[self.table.split == "train"].to_numpy(dtype=np.int64)
        starts, _ = window_starts("all", self.store, rows, self.features.frames)
        for i in range(0, len(starts), 256):
            yield cut(self.store.frames, starts[i : i + 256], self.features.frames)
