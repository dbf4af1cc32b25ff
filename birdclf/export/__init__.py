"""A run's network as a file for other programs, and its model card."""

OTHER_FILE = "Choose another file with --out, or move it."
