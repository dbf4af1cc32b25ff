"""The start of a linear probe: that of scikit-learn on the same vectors, and the best strength by validation."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from birdclf.data.dataset import Batch
from birdclf.errors import UserError
from birdclf.features.embedders.embedder import VectorFeatures
from birdclf.models.probes import LinearProbe, MLPProbe, mean_by_owner
from birdclf.training.closed_form import UNSEEN, ClosedForm, Logistic, RidgeRegression
from birdclf.training.module import SpeciesClassifier

CLASSES, WIDTH = 3, 5


class Plain(VectorFeatures):
    def fingerprint(self):
        return "plain"

    def embed(self, windows):
        return windows[:, :WIDTH]


def batch(target: list[int], seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(target)), rng.integers(1, 4, len(target)))
    centres = np.eye(CLASSES, WIDTH)[np.asarray(target)[owner]]
    vectors = torch.from_numpy(centres + 0.4 * rng.standard_normal((len(owner), WIDTH))).float().unsqueeze(2)
    y = torch.tensor(target)
    return Batch(vectors, y, torch.arange(len(y)), torch.from_numpy(owner))


TRAIN, VAL = batch([0] * 12 + [1] * 6 + [2] * 3, 0), batch([0, 1, 2] * 5, 1)


def started(init: ClosedForm, window: str = "bag", train: Batch = TRAIN, pool: str = "mean", monitor="val/macro_f1"):
    network = LinearProbe(CLASSES, WIDTH, pool=pool)
    features = Plain(16_000, 16_000, 16_000, WIDTH, "silence")
    classifier = SpeciesClassifier(network, torch.nn.CrossEntropyLoss(), features, ("a", "b", "c"), None, None, monitor)
    counts = torch.bincount(train.target, minlength=CLASSES)
    if window == "all":
        counts = torch.bincount(train.target[train.owner], minlength=CLASSES)
    data = SimpleNamespace(
        all_windows={"train": train, "val": VAL}.get, window=SimpleNamespace(train=window), classes=("a", "b", "c"),
        class_counts=counts,
    )  # fmt: skip
    init.start(classifier, data)
    return network


def means() -> tuple[np.ndarray, np.ndarray]:
    x = mean_by_owner(TRAIN.bands.squeeze(2), TRAIN.owner, len(TRAIN.target))
    return x.numpy(), TRAIN.target.numpy()


@pytest.mark.parametrize(("weights", "theirs"), [("none", None), ("balanced", "balanced")])
def test_a_bag_counts_by_its_mean_vector(weights, theirs):
    x, y = means()
    network = started(Logistic(strength=0.3, class_weights=weights))
    right = LogisticRegression(C=0.3, class_weight=theirs, max_iter=500).fit(x, y)
    np.testing.assert_allclose(network.classifier.weight.detach(), right.coef_, atol=2e-3)
    np.testing.assert_allclose(network.classifier.bias.detach(), right.intercept_, atol=2e-3)


@pytest.mark.parametrize("window", ["all", "random"])
def test_windows_count_alike_or_recordings_do(window):
    x, y = TRAIN.bands.squeeze(2).numpy(), TRAIN.target[TRAIN.owner].numpy()
    each = np.ones(len(y)) if window == "all" else 1 / np.bincount(TRAIN.owner)[TRAIN.owner]
    right = Ridge(alpha=2.0).fit(x, 2.0 * (y[:, None] == np.arange(CLASSES)) - 1, sample_weight=each / each.mean())
    network = started(RidgeRegression(strength=2.0), window)
    np.testing.assert_allclose(network.classifier.weight.detach(), right.coef_, atol=1e-4)
    np.testing.assert_allclose(network.classifier.bias.detach(), right.intercept_, atol=1e-4)


def test_other_pools_are_fitted_on_windows():
    network = started(RidgeRegression(strength=2.0), pool="max")
    same = started(RidgeRegression(strength=2.0), window="random")
    torch.testing.assert_close(network.classifier.weight, same.classifier.weight)


@pytest.mark.parametrize("monitor", ["val/macro_f1", "val/nll"])
def test_the_strength_is_the_best_on_validation(monitor, caplog):
    tried = (1e-5, 0.1, 100.0)
    with caplog.at_level("INFO"):
        chosen = started(Logistic(select=tried), monitor=monitor)
    values = {}
    for strength in tried:
        network = started(Logistic(strength=strength), monitor=monitor)
        logits = network.pool_windows(network(VAL.bands.squeeze(2)), VAL.bands, VAL.owner, len(VAL.target))
        values[strength] = torch.nn.functional.cross_entropy(logits, VAL.target).item()
        if torch.equal(network.classifier.weight, chosen.classifier.weight):
            found = strength
    assert f"strength {found:g}: {monitor}" in caplog.text
    if monitor == "val/nll":
        assert values[found] == min(values.values())
    else:
        assert found != 1e-5  # which gives one class to all


def test_a_class_without_a_train_recording_is_never_likely():
    kept = TRAIN.owner < 18  # the first two classes
    some = Batch(TRAIN.bands[kept], TRAIN.target[:18], TRAIN.recording[:18], TRAIN.owner[kept])
    network = started(Logistic(strength=10), train=some)
    bias = network.classifier.bias.detach()
    assert not network.classifier.weight[2].any() and bias[2] == bias[:2].min() - UNSEEN
    with torch.no_grad():
        probabilities = network(VAL.bands.squeeze(2)).softmax(dim=1)
    assert probabilities[:, 2].max() < 1e-3
    of_zero = (probabilities[:, 0] > probabilities[:, 1]) == (VAL.target[VAL.owner] == 0)
    assert of_zero[VAL.target[VAL.owner] < 2].float().mean() > 0.8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Logistic(strength=0), r"init.strength is 0; it must be a number above 0"),
        (lambda: Logistic(select=[]), r"init.select is empty"),
        (lambda: RidgeRegression(select=[1.0, -1.0]), r"init.select is -1.0"),
        (
            lambda: Logistic(class_weights="rare"),
            r"init.class_weights is 'rare'; it must be one of none, sqrt, balanced",
        ),
        (lambda: Logistic.check(MLPProbe(3, 5)), r"init sets the weights of a linear probe, but the model is MLPProbe"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
