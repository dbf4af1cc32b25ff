"""Splits, windows, batches and the data module."""
