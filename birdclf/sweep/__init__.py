"""Sweeps: where their jobs lie, what becomes of each, and the table at the end. Needs no torch."""
