"""Packed feature store: planning, building by one or several workers, reading; independent of the features."""
