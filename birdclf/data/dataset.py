"""Batches of windows from the feature store, read with one index operation per batch."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from birdclf.data.labels import Targets
from birdclf.data.samplers import Natural, number_draws
from birdclf.data.windows import RandomWindows, window_starts
from birdclf.random import key_of
from birdclf.store.open import FeatureStore


class Batch(NamedTuple):
    """Windows of some recordings.

    Attributes:
        bands: ``(W, F, T)`` stored features of the windows.
        target: ``(B,)`` int64 class of each recording, or ``(B, K)`` float32 sets, see
            :data:`birdclf.data.labels.Targets`.
        recording: ``(B,)`` int64 row of each recording in the catalog.
        owner: ``(W,)`` int64 position in the batch of each window's recording, ascending; with one window a
            recording it counts from 0 to B - 1.
    """

    bands: Tensor
    target: Tensor
    recording: Tensor
    owner: Tensor


class WindowDataset(Dataset[Batch]):
    """Recordings of one split, fetched by index list.

    In training an index is a *draw*: draw d is of recording ``d % n``, and the quotient identifies the epoch and the
    repeat (:mod:`birdclf.data.samplers`), so the window depends on the draw alone. In evaluation an index is a
    recording's position.

    Args:
        rows: ``(n,)`` rows of the store's index.
        target: ``(n,)`` class of each recording, or ``(n, K)`` sets of classes.
        policy: Window policy, ``random`` or a fixed one.
        frames: Frames per window.
        apart: Whether each window of a recording is a separate item, as in training unless the policy is ``bag``.
    """

    def __init__(
        self,
        store: FeatureStore,
        rows: NDArray[np.int64],
        target: Targets,
        policy: str,
        frames: int,
        seed: int,
        apart: bool = False,
    ) -> None:
        self.store, self.rows, self.target, self.frames = store, rows, target, frames
        self.apart = apart
        self.random = RandomWindows(store, rows, frames, seed) if policy == "random" else None
        if self.random is None:
            self.apart = apart = apart and policy != "bag"
            self.start, owner = window_starts("all" if policy == "bag" else policy, store, rows, frames)
            if apart:
                self.rows, self.target = rows[owner], target[owner]
            else:
                self.windows = np.bincount(owner, minlength=len(self.rows))
                self.first = np.cumsum(self.windows) - self.windows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        """Return the batch of one recording."""
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return the batch of these draws (training) or positions (evaluation)."""
        draws = np.asarray(indices, dtype=np.int64)
        position = draws % len(self.rows)
        if self.random is not None or self.apart:
            owner = np.arange(len(draws))
            start = self.start[position] if self.random is None else self.random.starts(draws)
        else:
            counts = self.windows[position]
            owner = np.repeat(np.arange(len(draws)), counts)
            nth = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
            start = self.start[self.first[position][owner] + nth]
        return Batch(
            bands=cut(self.store.frames, start, self.frames),
            target=torch.from_numpy(self.target[position]),
            recording=torch.from_numpy(self.rows[position]),
            owner=torch.from_numpy(owner),
        )


def cut(frames: NDArray[np.floating], start: NDArray[np.int64], length: int) -> Tensor:
    """Return windows ``(W, F, length)`` that start at ``start`` ``(W,)`` in packed frames ``(total, F)``."""
    windows = frames[start[:, None] + np.arange(length)]  # (W, length, F)
    return torch.from_numpy(windows).transpose(1, 2)


class Part(NamedTuple):
    """Rank of this process and number of processes that train together."""

    rank: int = 0
    processes: int = 1


Order = Callable[[int, np.random.Generator], NDArray[np.int64]]


class DrawSampler(Sampler[int]):
    """Yields the draws of an epoch in order.

    Several processes share each batch: draw n of a batch goes to process n modulo their number. If the last batch is
    too short for all of them, the first draws of the epoch are repeated, as few as necessary.

    Args:
        batch_size: Recordings in a batch of all processes together, a multiple of their number.
        order: Maps an epoch and its generator to the positions ``(n,)`` of its recordings; a shuffle if not given.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        batch_size: int = 1,
        part: Part = Part(),  # noqa: B008, immutable
        order: Order | None = None,
    ) -> None:
        self.order = order or partial(Natural().order, np.zeros(n, dtype=np.int64))
        self.n, self.key, self.epoch, self.begin = n, key_of(seed, "order"), 0, 0
        self.batch_size, self.part = batch_size, part
        last = n % batch_size
        self.again = part.processes - last if 0 < last < part.processes else 0

    def __len__(self) -> int:
        """Return the length of a whole epoch, even if the next pass starts within it."""
        return len(range(self.part.rank, self.n + self.again, self.part.processes))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass (called by the trainer)."""
        if epoch != self.epoch:
            self.epoch, self.begin = epoch, 0

    def start_at(self, epoch: int, draws: int) -> None:
        """Let the next pass skip the first draws of an epoch, a multiple of the batch size."""
        self.epoch, self.begin = epoch, draws

    def __iter__(self) -> Iterator[int]:
        order = self.order(self.epoch, np.random.Generator(np.random.PCG64([self.key, self.epoch])))
        draws = number_draws(order, self.epoch, self.n)
        draws = np.concatenate([draws, draws[: self.again]]) if self.again else draws
        return map(int, draws[self.begin :][self.part.rank :: self.part.processes])  # a list takes 40 bytes per draw


def as_fetched(batch: Any) -> Any:
    """Return the batch: the dataset's ``__getitems__`` has collated it already."""
    return batch


class ResumableLoader(DataLoader[Batch]):
    """Data loader of the train split that can start at any batch of an epoch.

    Lightning stores :meth:`state_dict` in a checkpoint and restores it before the first batch.

    Args:
        settings: Any other argument of ``DataLoader``.
    """

    def __init__(self, dataset: WindowDataset, sampler: DrawSampler, **settings: Any) -> None:
        super().__init__(
            dataset, **settings | {"batch_size": sampler.batch_size // sampler.part.processes}, sampler=sampler
        )
        self.order, self.size, self.given = sampler, sampler.batch_size, 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the batches of the epoch that the sampler is set to."""
        self.given = self.order.begin // self.size
        for batch in super().__iter__():
            self.given += 1
            yield batch

    def recordings(self, begin: int, end: int) -> int:
        """Return the number of recordings in the batches ``begin`` to ``end - 1`` of an epoch, of all processes."""
        total = self.order.n + self.order.again
        return min(end * self.size, total) - min(begin * self.size, total)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches that were yielded."""
        return {"epoch": self.order.epoch, "batches": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next pass after the batches of a state."""
        self.order.start_at(state["epoch"], state["batches"] * self.size)
