"""The event file holds what was added, in an order that no clock turns round, and says at once if it cannot."""

import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from birdclf.training.loggers import EventWriter


def scalars(folder: Path) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in EventAccumulator(str(folder)).Reload().Scalars("loss")]


def test_what_was_added_is_on_the_disk_before_the_file_is_closed(tmp_path):
    writer = EventWriter(str(tmp_path / "tensorboard"))
    for step in range(3):
        writer.add_scalar("loss", 2.0**-step, step)
        assert scalars(tmp_path / "tensorboard")[-1] == (step, 2.0**-step)
    writer.close()


def test_a_later_file_takes_the_place_of_the_end_of_an_earlier_one_after_the_clock_was_set_back(tmp_path, monkeypatch):
    folder = tmp_path / "tensorboard"
    first = EventWriter(str(folder))
    for step in (1, 2, 3):
        first.add_scalar("loss", 1.0, step)
    first.close()
    usual = time.time
    monkeypatch.setattr(time, "time", lambda: usual() - 7200)
    second = EventWriter(str(folder), purge_step=2)
    for step in (2, 3):
        second.add_scalar("loss", 0.5, step)
    second.close()
    assert scalars(folder) == [(1, 1.0), (2, 0.5), (3, 0.5)]


def test_an_event_that_finds_no_room_says_so_where_it_is_added(tmp_path):
    writer = EventWriter(str(tmp_path / "tensorboard"))
    with open("/dev/full", "wb") as full:
        records = writer._get_file_writer().event_writer.records
        records._writer = full
        writer._get_file_writer().event_writer.file = full
        with pytest.raises(OSError, match="No space"):
            writer.add_scalar("loss", 1.0, 1)
        writer.close()
