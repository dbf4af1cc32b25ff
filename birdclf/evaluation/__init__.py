"""Metrics, intervals and tests: arrays in, numbers and tables out."""
