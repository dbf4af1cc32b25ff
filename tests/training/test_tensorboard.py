import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from birdclf.metrics.plots import picture_of
from birdclf.training.loggers import FINAL, Loggers, TensorBoard, flat


def test_flat_settings():
    nested = {
        "seed": 1,
        "loss": {
            "_target_": "some.place.FocalLoss",
            "_partial_": True,
            "gamma": 2.0,
            "alpha": None,
            "nested": {"deep": True},
        },
        "sizes": [1, 2],
    }
    assert flat(nested) == {
        "seed": 1,
        "loss": "FocalLoss",
        "loss.gamma": 2.0,
        "loss.alpha": "None",
        "loss.nested.deep": True,
        "sizes": "[1, 2]",
    }


def test_flat_settings_are_what_tensorboard_takes():
    values = flat({"a": {"b": {"c": None}, "d": [{"e": 1}]}, "f": 0.5}).values()
    assert all(isinstance(value, str | int | float | bool) for value in values)


def test_final_metrics_stand_under_the_hyperparameters_tags(tmp_path):
    board = TensorBoard(str(tmp_path))
    logger = Loggers([board])
    logger.begin({"seed": 1, "loss": {"gamma": 2.0}})
    logger.log_metrics({"val/macro_f1": 0.5}, step=1)
    board.finalize("success")  # the trainer says so after fit; the final figures come later
    logger.end(
        {name: 0.25 + i / 100 for i, name in enumerate(FINAL["single_label"])},
        {"confusion_matrix": picture_of(Figure(figsize=(2, 1)))},
        epoch=7,
    )
    logger.close()
    assert len(list((tmp_path / "tensorboard").glob("events.out.*"))) >= 1
    scalars, hparams, images = {}, set(), set()
    for file in (tmp_path / "tensorboard").glob("events.out.*"):
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            scalars.setdefault(tag, []).extend(events.Scalars(tag))
        hparams |= set(events.summary_metadata)
        images |= set(events.Tags()["images"])
    assert scalars["val/macro_f1"][-1].value == 0.5
    assert "_hparams_/session_start_info" in hparams and "confusion_matrix" in images
    for i, name in enumerate(FINAL["single_label"]):
        last = max(scalars[f"final/{name}"], key=lambda event: event.wall_time)
        assert last.value == pytest.approx(0.25 + i / 100) and last.step == 7
