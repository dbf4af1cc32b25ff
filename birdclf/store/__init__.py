"""The packed feature store: planned, built, opened, built by several workers; knows no representation by name."""
