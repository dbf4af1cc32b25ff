import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, log_loss, roc_auc_score

from birdclf.metrics.figures import Evaluation
from birdclf.training.build import begin_at_prior
from birdclf.training.module import SetMetrics

COUNTS = np.array([200, 50, 5])
Z = torch.tensor([[2.0, -1.0, -3.0], [0.5, 1.5, -2.0], [-1.0, -2.0, 0.2], [-3.0, 0.1, -0.4], [1.0, -0.5, -1.0]])
Y = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]])


def epoch(*, train_counts=COUNTS, size=2, target=Y, **settings) -> dict[str, float]:
    metrics = SetMetrics(3, "val/", train_counts, Evaluation(**settings))
    for z, y in zip(Z.split(size), target.split(size), strict=True):
        metrics.update(z, y, torch.tensor(0.5))
    return metrics.compute()


def test_figures_are_those_of_the_whole_epoch():
    out, p, y = epoch(), Z.sigmoid().numpy(), Y.numpy()
    assert out["val/cmap"] == pytest.approx(np.mean([average_precision_score(y[:, k], p[:, k]) for k in range(3)]))
    assert out["val/auroc"] == pytest.approx(np.mean([roc_auc_score(y[:, k], p[:, k]) for k in range(3)]))
    assert out["val/macro_f1"] == pytest.approx(f1_score(y, p >= 0.5, average="macro"))
    assert out["val/micro_f1"] == pytest.approx(f1_score(y, p >= 0.5, average="micro"))
    assert out["val/nll"] == pytest.approx(log_loss(y.ravel(), p.ravel()), rel=1e-6)
    assert out["val/few_cmap"] == 1 and out["val/loss"] == 0.5
    assert all(type(value) is float for value in out.values())


def test_batches_do_not_matter():
    one, parts = epoch(size=5), epoch(size=1)
    assert one == pytest.approx(parts, rel=1e-6)


def test_the_threshold_is_that_of_the_settings():
    p, y = Z.sigmoid().numpy(), Y.numpy()
    assert epoch(threshold=0.2)["val/micro_f1"] == pytest.approx(f1_score(y, p >= 0.2, average="micro"))


def test_training_has_f1_alone_and_keeps_no_scores():
    metrics = SetMetrics(3, "train/")
    metrics.update(Z, Y, torch.tensor(0.5))
    assert not metrics.logits
    out = metrics.compute()
    assert out["train/macro_f1"] == pytest.approx(epoch()["val/macro_f1"])
    assert out["train/micro_f1"] == pytest.approx(epoch()["val/micro_f1"]) and "train/cmap" not in out


def test_unknown_entries_count_in_no_figure():
    target = Y.clone()
    target[1, 1] = target[0, 2] = -1
    changed = Z.clone()
    changed[1, 1], changed[0, 2] = -9.0, 9.0  # would be the worst of errors
    metrics = SetMetrics(3, "val/", COUNTS)
    metrics.update(changed, target, torch.tensor(0.5))
    assert metrics.compute() == pytest.approx(epoch(target=target), rel=1e-6)


def test_an_epoch_begins_empty_and_a_snapshot_is_one_of_training():
    whole, resumed = SetMetrics(3, "train/"), SetMetrics(3, "train/")
    whole.update(Z[:2], Y[:2], torch.tensor(1.0))
    resumed.restore(whole.snapshot())
    for metrics in (whole, resumed):
        metrics.update(Z[2:], Y[2:], torch.tensor(0.25))
    assert whole.compute() == resumed.compute()
    val = SetMetrics(3, "val/", COUNTS)
    val.update(1 - Z, Y, torch.tensor(7.0))
    val.reset()
    val.update(Z, Y, torch.tensor(0.5))
    assert val.compute() == pytest.approx(epoch(), rel=1e-6)


def test_training_begins_at_the_prior():
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 3))
    with torch.no_grad():
        network[2].weight.zero_()
    begin_at_prior(network, torch.tensor([30, 9, 0]), 39)
    np.testing.assert_allclose(
        network(torch.ones(1, 4)).sigmoid().detach()[0], [30.5 / 40, 9.5 / 40, 0.5 / 40], rtol=1e-6
    )
