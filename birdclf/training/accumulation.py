"""Steps of the optimizer that several batches share."""

import lightning.pytorch as pl

from birdclf.data.loader import ResumableLoader


def share_of_step(batch_idx: int, accumulated: int, trainer: pl.Trainer) -> float:
    """Return what a batch's mean loss is multiplied by, so that a step is that of the mean over its recordings.

    The trainer divides each loss by ``accumulated``, which is right for whole groups of equal batches: the last group
    of an epoch may have fewer batches, and the last batch fewer recordings.

    Args:
        batch_idx: Position of the batch in its epoch.
        accumulated: Batches a step.
        trainer: Knows the loader, and how many batches an epoch has.
    """
    loader = trainer.train_dataloader
    assert isinstance(loader, ResumableLoader)
    begin = batch_idx // accumulated * accumulated
    end = min(begin + accumulated, int(trainer.num_training_batches))
    return accumulated * loader.recordings(batch_idx, batch_idx + 1) / loader.recordings(begin, end)


def waits_for_step(batch_idx: int, trainer: pl.Trainer) -> bool:
    """Return whether the optimizer has not yet made its step when a batch of an epoch is over."""
    done = batch_idx + 1
    return done % trainer.accumulate_grad_batches != 0 and done < trainer.num_training_batches
