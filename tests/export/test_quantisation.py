"""The table of what 8-bit integers cost."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from birdclf.export.quantisation import cost
from birdclf.export.verification import SoundWindow

K, N = 4, 40


class Answering:
    """Stands for a file: each window holds the probabilities of its answer."""

    def __init__(self, task, source, shift):
        self.input_spec = SimpleNamespace(task=task, classes=tuple("abcd"))
        self.source, self.shift = source, shift

    def __call__(self, windows):
        return np.clip(windows + self.shift, 0.01, 0.99), windows


def told(task, target, p, tmp_path):
    file = tmp_path / "net.onnx"
    file.write_bytes(b"0" * 1000)
    sounds = [SoundWindow(str(n), window, own) for n, (window, own) in enumerate(zip(p, target, strict=True))]
    head, *rows, _ = cost(*(Answering(task, file, shift) for shift in (0.0, 0.1)), sounds).splitlines()[1:]
    return head.split(), [[float(word) for word in row.split()[1:3]] for row in rows]


def test_of_one_class_accuracy_and_f1(tmp_path):
    rng = np.random.default_rng(0)
    target, p = rng.integers(0, K, N), rng.dirichlet(np.ones(K), N).astype(np.float32)
    head, rows = told("single_label", target, p, tmp_path)
    named = p.argmax(axis=1)
    assert head[:3] == ["accuracy", "macro", "F1"]
    assert rows[0] == pytest.approx([accuracy_score(target, named), f1_score(target, named, average="macro")], abs=1e-4)


def test_of_sets_cmap_and_f1_of_the_classes_that_are_heard(tmp_path):
    rng = np.random.default_rng(1)
    target, p = (rng.random((N, K)) < 0.4).astype(np.float32), rng.uniform(0.05, 0.85, (N, K)).astype(np.float32)
    target[:, 3] = 0
    head, rows = told("multi_label", target, p, tmp_path)
    assert head[:3] == ["cmAP", "macro", "F1"]
    for row, answer in zip(rows, (p, p + 0.1), strict=True):
        ap = average_precision_score(target[:, :3], answer[:, :3], average="macro")
        assert row == pytest.approx([ap, f1_score(target[:, :3], answer[:, :3] >= 0.5, average="macro")], abs=1e-4)
