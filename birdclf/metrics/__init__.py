"""Arrays in, tables out: figures, intervals, tests, effects and calibration."""
