import io

import matplotlib.image
import numpy as np
import pytest

from birdclf.metrics.calibration import Reliability
from birdclf.metrics.multi_label import PrecisionRecall
from birdclf.metrics.plots import (
    confusion_figure,
    confusion_picture,
    per_class_figure,
    picture_of,
    precision_recall_figure,
    reliability_figure,
)


def test_confusion_is_shown_as_shares_of_the_true_class(tmp_path):
    confusion = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
    figure = confusion_figure(confusion, ("crane", "robin", "wren"))
    axes = figure.axes[0]
    printable = axes.images[0].get_array()
    np.testing.assert_allclose(printable, [[0.8, 0.2, 0], [0.25, 0.75, 0], [0, 0, 0]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["crane", "robin", "wren"]
    assert axes.get_xlabel() == "predicted species" and axes.get_ylabel() == "true species"
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize("classes", [2, 89])
def test_the_figure_grows_with_the_classes(classes):
    width, height = confusion_figure(np.eye(classes, dtype=int), tuple(map(str, range(classes)))).get_size_inches()
    assert width == height and 0.1 < width / classes < 3


def test_kept_labels_change_no_pixel():
    rng = np.random.default_rng(0)
    for classes in (("crane", "robin", "wren"), ("crane", "robin", "wren"), ("a", "b"), ("crane", "robin", "wren")):
        confusion = rng.integers(0, 9, (len(classes), len(classes)))
        kept, drawn = confusion_picture(confusion, classes), picture_of(confusion_figure(confusion, classes))
        assert kept == drawn
        assert matplotlib.image.imread(io.BytesIO(kept.png)).shape == (kept.height, kept.width, 3)


@pytest.mark.parametrize("support", [[5, 4, 0, 3], [5, 4, 1, 3]])
def test_f1_against_train_recordings(tmp_path, support):
    train, f1, support = np.array([1000, 100, 10, 2]), np.array([0.9, 0.5, 0.2, 0.0]), np.array(support)
    figure = per_class_figure(f1, train, support)
    axes = figure.axes[0]
    seen = support > 0
    np.testing.assert_allclose(axes.collections[0].get_offsets(), np.stack([train, f1], axis=1)[seen])
    unseen = [x for line in axes.lines for x in line.get_xdata()]
    assert unseen == train[~seen].tolist()
    assert axes.get_xscale() == "log"
    low, high = axes.get_ylim()
    assert low < 0 and high > 1  # nothing is drawn outside
    figure.savefig(tmp_path / "a.png")


def test_reliability_shows_full_bins_only(tmp_path):
    found = Reliability(np.array([0.0, 0.3, 0.9]), np.array([0.0, 0.5, 0.6]), np.array([0, 10, 30]))
    figure = reliability_figure(found, temperature=1.5)
    above, below = figure.axes
    assert [bar.get_height() for bar in above.patches] == [0.5, 0.6]
    assert [bar.get_height() for bar in below.patches] == [0, 10, 30]
    assert above.get_title() == "temperature 1.5, calibration error 0.275"  # (10 * 0.2 + 30 * 0.3) / 40
    figure.savefig(tmp_path / "a.png")


def test_precision_recall_curves_have_a_panel_each_and_a_band():
    recall = np.linspace(0, 1, 5)
    curve = PrecisionRecall(recall, 1 - recall, 0.5 - recall / 2, np.ones(5))
    for names, columns in (
        (("all",), 1),
        (("all", "few"), 2),
        (("all", "many", "medium", "few"), 2),
        (("a", "b", "c"), 2),
    ):
        figure = precision_recall_figure(dict.fromkeys(names, curve))
        shown = [axes for axes in figure.axes if axes.get_visible()]
        assert len(shown) == len(names) and len({axes.get_position().x0 for axes in shown}) == columns
        assert all(len(axes.collections) == 1 for axes in shown)
    assert shown[0].get_title() == "a-shot species" and shown[0].lines[0].get_ydata().tolist() == (1 - recall).tolist()
    assert picture_of(figure).png.startswith(b"\x89PNG")
