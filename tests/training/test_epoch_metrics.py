import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from torch.nn import functional

from birdclf.metrics.figures import Evaluation
from birdclf.training.module import ClassMetrics

CLASSES = 6


def batches(sizes=(7, 7, 3), dtype=torch.float32):
    """Return logits, targets (class 5 never occurs) and a loss for each batch."""
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        logits = 2 * torch.randn(size, CLASSES, generator=generator)
        yield logits.to(dtype), torch.randint(0, 5, (size,), generator=generator), torch.rand((), generator=generator)


def figures(prefix: str = "", **settings) -> dict[str, float]:
    metrics = ClassMetrics(CLASSES, prefix)
    for batch in batches(**settings):
        metrics.update(*batch)
    return metrics.compute()


def test_figures_are_those_of_the_whole_epoch():
    logits, target, losses = (list(column) for column in zip(*batches(), strict=True))
    z, y = torch.cat(logits), torch.cat(target)
    prediction = z.argmax(dim=1)
    out = figures("val/")
    assert {name.split("/")[0] for name in out} == {"val"}
    assert out["val/accuracy"] == pytest.approx(accuracy_score(y, prediction))
    assert out["val/balanced_accuracy"] == pytest.approx(
        np.mean([(prediction[y == k] == k).float().mean().item() for k in y.unique()])
    )
    macro = f1_score(y, prediction, average="macro", labels=range(CLASSES), zero_division=0)
    assert out["val/macro_f1"] == pytest.approx(macro)
    assert out["val/nll"] == pytest.approx(float(functional.cross_entropy(z, y)), rel=1e-5)
    assert out["val/loss"] == pytest.approx(
        sum(float(loss) * n for loss, n in zip(losses, (7, 7, 3), strict=True)) / 17
    )
    assert all(type(value) is float for value in out.values())


def test_batches_do_not_matter():
    metrics = ClassMetrics(CLASSES)
    logits, target, _ = (list(column) for column in zip(*batches(), strict=True))
    metrics.update(torch.cat(logits), torch.cat(target), torch.tensor(0.5))
    whole, parts = metrics.compute(), figures()
    assert all(whole[name] == pytest.approx(parts[name], rel=1e-6) for name in whole if name != "loss")


def test_an_epoch_begins_empty():
    metrics = ClassMetrics(CLASSES)
    for batch in batches():
        metrics.update(*batch)
    metrics.reset()
    metrics.update(torch.eye(CLASSES), torch.arange(CLASSES), torch.tensor(0.25))
    out = metrics.compute()
    assert out["accuracy"] == 1 and out["loss"] == 0.25


def test_buckets_that_have_a_clip_have_a_recall_and_an_f1():
    metrics = ClassMetrics(4, "val/", np.array([200, 50, 5, 3]), Evaluation())
    target, prediction = torch.tensor([0, 0, 2, 3]), torch.tensor([0, 2, 2, 2])
    metrics.update(functional.one_hot(prediction, 4).float(), target, torch.tensor(1.0))
    out = metrics.compute()
    assert out["val/many_recall"] == 0.5 and out["val/many_f1"] == pytest.approx(2 / 3)
    assert out["val/few_recall"] == 0.5 and out["val/few_f1"] == pytest.approx((0.5 + 0) / 2)
    assert "val/medium_recall" not in out and "val/medium_f1" not in out
    assert not [name for name in figures() if "recall" in name], "there are no buckets without train counts"


def test_the_limits_of_the_buckets_are_those_of_the_settings():
    metrics = ClassMetrics(2, train_counts=np.array([7, 3]), evaluation=Evaluation(many=5, few=4))
    metrics.update(torch.eye(2), torch.arange(2), torch.tensor(1.0))
    assert {name for name in metrics.compute() if name.endswith("recall")} == {"many_recall", "few_recall"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_keep_a_precise_nll(dtype):
    usual, half = figures(sizes=(500,)), figures(sizes=(500,), dtype=dtype)
    assert half["nll"] == pytest.approx(usual["nll"], rel=1e-2)
    assert half["loss"] == usual["loss"]


def test_a_loss_that_is_not_finite_shows():
    metrics = ClassMetrics(CLASSES)
    metrics.update(torch.eye(CLASSES), torch.arange(CLASSES), torch.tensor(float("nan")))
    metrics.update(torch.eye(CLASSES), torch.arange(CLASSES), torch.tensor(0.5))
    assert np.isnan(metrics.compute()["loss"])


def test_agrees_with_sklearns_balanced_accuracy():
    y, prediction = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 5, 2])
    metrics = ClassMetrics(CLASSES)
    metrics.update(functional.one_hot(prediction, CLASSES).float(), y, torch.tensor(1.0))
    with pytest.warns(UserWarning, match="y_pred contains classes"):
        theirs = balanced_accuracy_score(y, prediction)
    assert metrics.compute()["balanced_accuracy"] == pytest.approx(theirs)
