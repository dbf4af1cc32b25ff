"""Sections of a report, a file each, as plain data."""
