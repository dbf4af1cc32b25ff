"""Fixtures of whole commands that something goes wrong with."""

from command_fixtures import birdclf, own_recordings, python, quick_and_wide, recordings

__all__ = ["birdclf", "own_recordings", "python", "quick_and_wide", "recordings"]
