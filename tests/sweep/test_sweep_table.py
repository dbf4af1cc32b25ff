"""The table of a sweep that a person reads."""

import pandas as pd

from birdclf.sweep.table import FINISHED, _cells


def test_of_a_sweep_over_tasks_a_figure_that_a_job_lacks_is_left_open():
    one = {"job": "0", "overrides": "task=single_label", "status": FINISHED, "val/macro_f1": 0.1, "test accuracy": 0.4}
    other = {"job": "1", "overrides": "task=multi_label", "status": FINISHED, "val/cmap": 0.3, "test cMAP": 0.5}
    both = {"low": 0.2, "high": 0.6, "test macro F1": 0.25, "best epoch": 1, "epochs": 2}
    head, rows, _ = _cells(pd.DataFrame([one | both, other | both]))
    assert head == ["job", "val/macro_f1", "test accuracy", "macro F1", "epochs"]
    assert rows == [
        ["0 single_label", "0.100", "0.400 [0.20, 0.60]", "0.250", "1/2"],
        ["1 multi_label", "-", "-", "0.250", "1/2"],
    ]
