"""The augmentations of a run, at their places in a training step."""

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from birdclf.augment.augmentation import Augmentation, Bags, OnBands, OnFeatures, OnPairs, OnPower, Rows, replace_rows
from birdclf.errors import UserError
from birdclf.features.mel import MelFeatures
from birdclf.features.representation import Representation
from birdclf.random import stream
from birdclf.targets import Task


class BatchPosition(NamedTuple):
    """Position of a batch in a run: its epoch, its number in the epoch and its process, each from 0.

    All random numbers of a batch depend on seed, name and position alone. It counts batches, not optimizer steps, which
    do not advance while gradients are accumulated.
    """

    epoch: int
    batch: int
    rank: int = 0


class Chain(nn.Module):
    """Computes features and targets of a training batch, with augmentations at four places.

    Stored bands, power of mel bands, normalised features, pairs: in this order, and within a place by
    :attr:`birdclf.augment.augmentation.Augmentation.turn`. Each augmentation has its own random stream, so adding one
    does not change another, and a run that is resumed within an epoch draws the same numbers. With several processes
    each mixes within its part of a batch.

    Args:
        class_counts: ``(K,)`` train recordings of each class.
        batch_size: Windows of a batch in a process.
        task: Whether targets are classes or sets of them.

    Raises:
        UserError: If two of them contradict each other, or a setting does not fit the features, batch size or task.
    """

    def __init__(
        self,
        augmentations: Mapping[str, Augmentation],
        features: Representation,
        class_counts: Tensor,
        seed: int,
        batch_size: int,
        task: Task = "single_label",
    ) -> None:
        super().__init__()
        self.seed, self.num_classes = seed, len(class_counts)
        for name, augmentation in augmentations.items():
            if not isinstance(augmentation, Augmentation):
                raise UserError(
                    f"augment.{name} is not an augmentation. Choose it by augment={name}, or with others by "
                    f"augment=[{name},…]; the _target_ of a custom one must be an Augmentation."
                )
            if augmentation.needs_partner and batch_size < 2:
                raise UserError(
                    f"augment.{name} mixes recordings of a batch, but loader.batch_size is 1 per process. Choose "
                    f"a larger batch, or remove {name} from augment."
                )
            if augmentation.task not in (None, task):
                raise UserError(
                    f"augment.{name} is for task={augmentation.task}, but task is {task}. Remove {name} from augment, "
                    f"or use mixup, which is for both."
                )
            augmentation.bind(features, class_counts)
        self.links = nn.ModuleDict(dict(sorted(augmentations.items(), key=lambda item: (item[1].turn, item[0]))))
        mixing = [name for name, augmentation in augmentations.items() if isinstance(augmentation, OnPairs)]
        if len(mixing) > 1:
            raise UserError(f"augment has both {mixing[0]} and {mixing[1]}; each mixes targets. Choose one of them.")

    def forward(
        self,
        bands: Tensor,
        target: Tensor,
        features: Representation,
        position: BatchPosition,
        owner: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return normalised features and the targets of a batch.

        Args:
            bands: ``(W, F, T)`` what is stored of its windows, of any float type; it is not changed.
            target: ``(B,)`` classes of its recordings, or ``(B, K)`` sets of them: 1, 0, or -1 for masked.
            features: Fitted feature module.
            position: Position of the batch.
            owner: ``(W,)`` recording of each window, ascending; None where each has one. A window of a recording is
                mixed with one of its partner's, the n-th with the n-th, beginning again where that has fewer.

        Returns:
            Features ``(W, ...)`` float32, and ``(B,)`` classes, or ``(B, K)`` probabilities where pairs may be mixed;
            of sets ``(B, K)`` sets.
        """
        size = len(bands)
        with torch.no_grad(), torch.autocast(bands.device.type, enabled=False):
            for shift, rows, rng in self._acting(OnBands, position, size):
                bands = shift(bands.float(), rows, rng, features)
            bands = self._on_power(bands, features, position)
        x: Tensor = features(bands)
        for mask, rows, rng in self._acting(OnFeatures, position, size):
            x = mask(x, rows, rng)
        if not any(isinstance(link, OnPairs) and link.p > 0 for link in self.links.values()):
            return x, target
        # Targets are soft in every batch and process, even where none is mixed: DDP processes exchange them.
        soft = target if target.ndim == 2 else functional.one_hot(target, self.num_classes).float()
        bags = Bags(None if owner is None or len(owner) == len(target) else owner.cpu().numpy())
        for mix, rows, rng in self._acting(OnPairs, position, len(target)):
            x, soft = mix(x, target, rows, rng, bags)
        return x, soft

    def _on_power(self, bands: Tensor, features: Representation, position: BatchPosition) -> Tensor:
        acting = self._acting(OnPower, position, len(bands))
        if not acting:
            return bands
        assert isinstance(features, MelFeatures)  # bind has refused others
        bands = bands.float()
        touched = reduce(np.union1d, [rows for _, rows, _ in acting])
        db = features.to_db(bands[touched])
        for link, rows, rng in acting:
            own = np.searchsorted(touched, rows)
            db = replace_rows(db, own, link(db if len(own) == len(db) else db[own], rows, rng, bands, features))
        return replace_rows(bands, touched, features.from_db(db))

    def _acting(
        self, kind: type, position: BatchPosition, size: int
    ) -> list[tuple[Augmentation, Rows, np.random.Generator]]:
        """Return the augmentations of a kind that act on a batch, with their rows and generators."""
        found = []
        for name, module in self.links.items():
            link = cast(Augmentation, module)
            if not isinstance(link, kind) or link.p == 0 or (link.needs_partner and size < 2):
                continue
            rng = stream(self.seed, "augment", name, *position)
            rows = np.flatnonzero(rng.random(size) < link.p)
            if len(rows):
                found.append((link, rows, rng))
        return found
