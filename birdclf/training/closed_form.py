"""Start of a linear probe at the optimum of a convex loss, fitted by scikit-learn in one pass over the vectors."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from birdclf.checks import above, choice
from birdclf.config import direction
from birdclf.data.dataset import Batch
from birdclf.data.module import RecordingDataModule
from birdclf.errors import UserError
from birdclf.models.probes import LinearProbe, mean_by_owner
from birdclf.training.module import SpeciesClassifier

log = logging.getLogger(__name__)

EXPONENTS: Final = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}
UNSEEN: Final = 20.0
"""How far the logit of a class without a train recording lies below the least other bias."""


class ClosedForm(ABC):
    """A convex fit of the output layer of a linear probe.

    With ``window.train=bag`` and ``model.pool=mean`` an example is the mean vector of a recording; otherwise it is a
    window, of weight 1 with ``window.train=all``, else such that a recording counts as 1.

    Args:
        strength: Of the penalty, above 0; its meaning is the subclass's.
        class_weights: Of an example by the count n of its class: ``none``, ``sqrt`` (n ** -0.5) or ``balanced`` (1/n).
        select: Strengths, of which the one with the best monitored value on validation is taken in place of
            ``strength``.

    Raises:
        UserError: If a setting is out of range.
    """

    name: ClassVar[str]

    def __init__(self, strength: float, class_weights: str = "none", select: Sequence[float] | None = None) -> None:
        choice("init.class_weights", class_weights, tuple(EXPONENTS))
        self.exponent = EXPONENTS[class_weights]
        if select is not None and not len(select):
            raise UserError("init.select is empty; it must list one strength or more, or be null.")
        self.strengths = [strength] if select is None else list(select)
        for value in self.strengths:
            above("init.strength" if select is None else "init.select", value, 0)

    @abstractmethod
    def fit(
        self, x: NDArray[np.float32], y: NDArray[np.int64], weight: NDArray[np.float64], strength: float
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return the weights ``(C, E)`` and biases ``(C,)`` of the C classes that occur, ascending.

        Args:
            x: ``(n, E)`` examples.
            y: ``(n,)`` their classes.
            weight: ``(n,)`` their weights, of mean 1.
            strength: Of the penalty.
        """

    @staticmethod
    def check(network: nn.Module) -> None:
        """Refuse a network that is no linear probe.

        Raises:
            UserError: If it is another one.
        """
        if not isinstance(network, LinearProbe):
            raise UserError(
                f"init sets the weights of a linear probe, but the model is {type(network).__name__}. Use "
                f"model=linear_probe or attention_probe, or init=none."
            )

    @torch.no_grad()
    def start(self, classifier: SpeciesClassifier, data: RecordingDataModule) -> None:
        """Set the output layer of a classifier whose network is a linear probe, and log how good the start is."""
        self.check(classifier.network)
        network = classifier.network
        assert isinstance(network, LinearProbe)
        train, val = data.all_windows("train"), data.all_windows("val")
        x = classifier.features(train.bands)
        if data.window.train == "bag" and network.pool == "mean":
            x, y = mean_by_owner(x, train.owner, len(train.target)), train.target
            weight = torch.ones(len(y))
        else:
            y, counts = train.target[train.owner], torch.bincount(train.owner)[train.owner]
            weight = torch.ones(len(y)) if data.window.train == "all" else 1 / counts
        weight = weight * data.class_counts.clamp_min(1).double()[y] ** -self.exponent
        weight = weight / weight.mean()
        found = []
        for strength in self.strengths:
            w, b = self.fit(x.numpy(), y.numpy(), weight.double().numpy(), strength)
            layer = _whole(w, b, np.unique(y.numpy()), len(data.classes))
            found.append((_score(classifier, layer, val), strength, layer))
        best = (min if direction(classifier.monitor) == "min" else max)(found, key=lambda one: one[0])
        _set(network, best[2])
        tried = ", ".join(f"{strength:g}: {value:.4f}" for value, strength, _ in found)
        chosen = f", chosen of {tried}" if len(found) > 1 else ""
        log.info("init=%s, strength %g: %s %.4f%s", self.name, best[1], classifier.monitor, best[0], chosen)


class Logistic(ClosedForm):
    """Multinomial logistic regression; ``strength`` is C, the inverse of the penalty, as in scikit-learn."""

    name = "logistic"

    def __init__(
        self, strength: float = 0.02, class_weights: str = "none", select: Sequence[float] | None = None
    ) -> None:
        super().__init__(strength, class_weights, select)

    def fit(
        self, x: NDArray[np.float32], y: NDArray[np.int64], weight: NDArray[np.float64], strength: float
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return weights and biases by L-BFGS."""
        from sklearn.linear_model import LogisticRegression

        solved = LogisticRegression(C=strength, max_iter=500).fit(x, y, sample_weight=weight)
        w, b = solved.coef_, solved.intercept_
        return (w, b) if len(w) > 1 else (np.concatenate([-w, w]) / 2, np.concatenate([-b, b]) / 2)


class RidgeRegression(ClosedForm):
    """Ridge regression on the classes as -1 and 1; ``strength`` is alpha, the penalty, as in scikit-learn."""

    name = "ridge"

    def __init__(
        self, strength: float = 1000.0, class_weights: str = "none", select: Sequence[float] | None = None
    ) -> None:
        super().__init__(strength, class_weights, select)

    def fit(
        self, x: NDArray[np.float32], y: NDArray[np.int64], weight: NDArray[np.float64], strength: float
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return weights and biases in closed form."""
        from sklearn.linear_model import Ridge

        one_hot = 2.0 * (y[:, None] == np.unique(y)) - 1
        solved = Ridge(alpha=strength).fit(x, one_hot, sample_weight=weight)
        return solved.coef_, solved.intercept_


def _whole(w: NDArray[Any], b: NDArray[Any], present: NDArray[np.int64], classes: int) -> tuple[Tensor, Tensor]:
    """Return weights ``(K, E)`` and biases ``(K,)`` of all classes; one without an example is never likely."""
    weight, bias = torch.zeros(classes, w.shape[1]), torch.full((classes,), float(b.min()) - UNSEEN)
    weight[present], bias[present] = torch.from_numpy(w).float(), torch.from_numpy(b).float()
    return weight, bias


def _set(network: LinearProbe, layer: tuple[Tensor, Tensor]) -> None:
    assert isinstance(network.classifier, nn.Linear)
    network.classifier.weight.copy_(layer[0])
    network.classifier.bias.copy_(layer[1])


def _score(classifier: SpeciesClassifier, layer: tuple[Tensor, Tensor], val: Batch) -> float:
    """Return the monitored value on validation with an output layer."""
    assert isinstance(classifier.network, LinearProbe)
    _set(classifier.network, layer)
    was_training = classifier.training
    logits = classifier.eval().recording_logits(val)
    classifier.train(was_training)
    own = classifier.val_metrics
    metrics = type(own)(len(classifier.classes), "val/", own.train_counts, own.evaluation)
    metrics.update(logits, val.target, torch.zeros(()))
    return metrics.compute()[classifier.monitor]
