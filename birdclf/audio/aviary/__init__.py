"""Procedural bird sound: a waveform from a recording's name alone."""
