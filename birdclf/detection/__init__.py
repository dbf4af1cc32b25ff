"""Recordings of any length in, detections out: a species, its begin and end, and a confidence."""
