"""Fixtures of whole commands."""

from command_fixtures import birdclf, browser, manifest, own_recordings, python, quick_and_wide, recordings

__all__ = ["birdclf", "browser", "manifest", "own_recordings", "python", "quick_and_wide", "recordings"]
