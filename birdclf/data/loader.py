"""A loader of training batches that can say where in an epoch it stands, and begin there."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from birdclf.data.dataset import Batch, DrawSampler, WindowDataset


class ResumableLoader(DataLoader[Batch]):
    """Batches of the train split in the order of a sampler, from any batch of an epoch.

    Lightning stores :meth:`state_dict` in a checkpoint and hands it back before the first batch is asked for.

    Args:
        dataset: Recordings of the split, fetched by index list.
        sampler: Order of an epoch; it knows the size of a batch, and this process's part of each.
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
        """Return how many recordings the batches ``begin`` to ``end - 1`` of an epoch hold, of all processes."""
        total = self.order.n + self.order.again
        return min(end * self.size, total) - min(begin * self.size, total)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches were given out."""
        return {"epoch": self.order.epoch, "batches": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next pass after the batches of a state."""
        self.order.start_at(state["epoch"], state["batches"] * self.size)
