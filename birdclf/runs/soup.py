"""The ``soup`` command: the weights of several runs averaged into one network (Wortsman et al., 2022)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from birdclf.config import direction
from birdclf.data.dataset import Batch
from birdclf.errors import UserError
from birdclf.metrics.predictions import Predictions
from birdclf.models.norm_statistics import batch_norms, measuring
from birdclf.runs.checkpoint import read_checkpoint, write_checkpoint
from birdclf.runs.combine import (
    CombinedRun,
    Member,
    check_distinct,
    check_finished,
    check_new,
    check_same_task,
    metrics_of,
    monitor_of,
    new_folder,
    of_one_class,
    print_combined,
    write_combined,
)
from birdclf.runs.opening import OpenedRun, open_run, read_settings
from birdclf.runs.predictor import Predictor, predict
from birdclf.runs.results import score
from birdclf.runs.run import Run
from birdclf.text import printable

Weights = Mapping[str, Tensor]


def mean_weights(weights_of_runs: Sequence[Weights]) -> dict[str, Tensor]:
    """Return the mean of tensors of the same names and shapes; of whole numbers, those of the first."""
    first = weights_of_runs[0]
    if len(weights_of_runs) == 1:
        return {name: value.clone() for name, value in first.items()}
    return {
        name: torch.stack([each[name].double() for each in weights_of_runs]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in first.items()
    }


def update_batch_norms(trainer: pl.Trainer, predictor: Predictor, batches: DataLoader[Batch]) -> None:
    """Recompute the running statistics of a network's batch norms (Izmailov et al., 2018, section 3.2).

    They become the mean over windows, with all else in evaluation mode. Without batch norms nothing is done.
    """
    norms = batch_norms(predictor.network)
    if norms:
        with measuring(predictor, norms) as weigh:
            trainer.predict(_Measuring(predictor, weigh), dataloaders=batches)


class _Measuring(pl.LightningModule):
    """Runs train windows through a network whose batch norms collect statistics."""

    def __init__(self, predictor: Predictor, weigh: Callable[[int], None]) -> None:
        super().__init__()
        self.predictor, self.weigh = predictor, weigh

    def on_predict_model_eval(self) -> None:
        """Keep the modes of the layers: the batch norms collect statistics."""

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Pass a batch through; a single window, which a norm of vectors cannot take, is left out."""
        if len(batch.bands) > 1:
            self.weigh(len(batch.bands))
            with torch.autocast(self.device.type, enabled=False):  # as in evaluation
                self.predictor(batch.bands)
        return batch.target.cpu()  # the trainer warns of a step that gives nothing


Recipe = Literal["greedy", "uniform"]

HOME = Path("outputs/soups")


def soup(
    runs: Sequence[Path],
    recipe: Recipe = "greedy",
    source: Sequence[str] = (),
    out: Path | None = None,
    keep: bool = False,
    trusted: Collection[str] = (),
) -> Path | None:
    """Average the best weights of several runs of one architecture; write the result if it is better than each run.

    The monitored metric on validation decides. Statistics of batch norms are recomputed on train windows. Runs have the
    same network, features, classes and split.

    The recipe ``greedy`` adds runs from the best on and leaves out those that make it worse (Wortsman et al., 2022,
    recipe 1); ``uniform`` averages all. ``keep`` writes the soup even if it is no better. The other options are those
    of :func:`birdclf.runs.opening.open_run`.

    Returns:
        The new folder (``out``, or one below ``outputs/soups``), which ``evaluate`` and ``report`` take like a run's;
        None if the soup is no better.

    Raises:
        UserError: If the folder exists, or the runs cannot be averaged.
    """
    if len(runs) < 2:
        raise UserError(f"RUN: a soup needs two run folders or more, and got {len(runs)}. Give another one.")
    check_new(out)
    check_distinct(runs)
    first = open_run(runs[0], source=source, trusted=trusted, with_train=True)
    if not first.recordings.own:
        raise UserError(f"--source: {first.recordings.source.name} is not what {runs[0]} was split from.")
    weights_of_runs = [_weights_of(run, first, trusted) for run in runs]
    members = [_member(run, first, weights, trusted) for run, weights in zip(runs, weights_of_runs, strict=True)]
    monitor = monitor_of(members)
    sign = 1 if direction(monitor) == "max" else -1
    scores = [sign * score(member.predictions["val"], monitor) for member in members]
    order = sorted(range(len(runs)), key=lambda i: -scores[i])
    for i in order:
        print(printable(f"{monitor} {sign * scores[i]:.4f}: {runs[i]}"))
    used, weights, reached = order[:1], weights_of_runs[order[0]], scores[order[0]]
    for tried in [order] if recipe == "uniform" else [order[: n + 1] for n in range(1, len(order))]:
        wanted = tried if recipe == "uniform" else [*used, tried[-1]]
        averaged = _mean_of(first, [weights_of_runs[i] for i in wanted])
        value = sign * score(_predicted(first, averaged, ("val",))["val"], monitor)
        print(f"{monitor} {sign * value:.4f}: mean of {len(wanted)}")
        if recipe == "uniform" or value >= reached:
            used, weights, reached = wanted, averaged, value
    if not reached > scores[order[0]]:
        print(f"no soup is better than the best run on validation{'' if keep else ': nothing is written'}")
        if not keep:
            return None
    command = ["birdclf", "soup", *map(str, runs), "--recipe", recipe, *(["--source", *source] if source else [])]
    command += [*(["--keep"] if keep else []), *(f"--trust={package}" for package in trusted)]
    return _write(first, members, weights, used, recipe, command, out)


def _weights_of(run: Path, first: OpenedRun, trusted: Collection[str]) -> Weights:
    """Return the weights of a run, of the same network and features as the first one's.

    Raises:
        UserError: If they are of another; it names the first difference.
    """
    loaded = Run(run).load(trusted=trusted)
    if loaded.adjustment is not None:
        raise UserError(
            f"{run} adjusts its logits after training (posthoc), as was fitted for its own weights. Soups are made of "
            f"runs with posthoc=none."
        )
    check_same_task(Run(first.folder), first.loaded.classes, Run(run), loaded.classes)
    a, b = first.loaded, loaded
    for group, own, other in (
        ("model", a.config.get("model"), b.config.get("model")),
        ("features", a.predictor.features.settings, b.predictor.features.settings),
        ("audio", a.config.get("audio"), b.config.get("audio")),
    ):
        own, other = dict(own or {}), dict(other or {})
        for name in sorted(own.keys() | other.keys()):
            if own.get(name) != other.get(name):
                raise UserError(
                    f"{group}.{name} is {own.get(name)!r} in {first.folder} and {other.get(name)!r} in {run}: weights "
                    f"are averaged within one architecture on one kind of features; evaluate averages predictions."
                )
    weights = loaded.predictor.state_dict()
    fitted = a.predictor.state_dict()
    for name, value in weights.items():
        if name.startswith("features.") and not torch.equal(value, fitted[name]):
            raise UserError(
                f"{name} differs between {first.folder} and {run}: their features were fitted on other recordings. "
                f"Train them on the same source."
            )
    return {name: value.clone() for name, value in weights.items()}


def _member(run: Path, first: OpenedRun, weights: Weights, trusted: Collection[str]) -> Member:
    read_settings(run, (), trusted)  # a member is untrusted
    member = Run(run)
    check_finished(member)
    return Member(member, first.loaded.classes, _predicted(first, weights, ("val", "test")))


def _predicted(first: OpenedRun, weights: Weights, stages: Sequence[str]) -> dict[str, Predictions]:
    first.loaded.predictor.load_state_dict(weights)
    loaders = {stage: first.recordings.loaders[stage] for stage in stages}
    raw = predict(first.trainer, first.loaded.predictor, loaders, first.recordings.source.table)
    return of_one_class(raw, first.folder)


def _mean_of(first: OpenedRun, weights_of_runs: Sequence[Weights]) -> dict[str, Tensor]:
    predictor = first.loaded.predictor
    predictor.load_state_dict(mean_weights(weights_of_runs))
    update_batch_norms(first.trainer, predictor, first.recordings.loaders["train"])
    return {name: value.detach().cpu().clone() for name, value in predictor.state_dict().items()}


def _write(
    first: OpenedRun,
    members: Sequence[Member],
    weights: Weights,
    used: Sequence[int],
    recipe: Recipe,
    command: Sequence[str],
    out: Path | None,
) -> Path:
    shares = [1 / len(used) if i in used else 0.0 for i in range(len(members))]
    predictions = _predicted(first, weights, ("val", "test"))
    parameters = int(members[0].run.metrics["parameters"])
    combined = CombinedRun(
        "soup", {"recipe": recipe, "weights": shares}, f"{recipe} soup of {len(used)} runs", shares, parameters, command
    )
    metrics = metrics_of(combined, members, predictions, first.settings)
    folder = new_folder(out, HOME)
    _write_checkpoint(folder, first, weights, metrics)
    write_combined(folder, combined, members, predictions, metrics, first.settings)
    print_combined(combined, members, predictions, metrics, first.settings)
    print(f"soup folder: {printable(folder)}")
    return folder


def _write_checkpoint(folder: Path, first: OpenedRun, weights: Weights, metrics: Mapping[str, Any]) -> None:
    """Write weights as a run's best ones, which were trained for 0 epochs."""
    content = read_checkpoint(first.folder / "checkpoints" / "best.ckpt")
    own = content["birdclf"] | {"temperature": metrics["temperature"]}
    kept = {name: content[name] for name in ("pytorch-lightning_version",) if name in content}
    content = kept | {"birdclf": own, "state_dict": dict(weights), "epoch": -1}
    write_checkpoint(content, folder / "checkpoints" / "best.ckpt")
