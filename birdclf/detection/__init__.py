"""Recordings of any length in, detections out: which species is heard, from when to when, and how surely."""
