"""Recordings of Xeno-Canto by its API."""
