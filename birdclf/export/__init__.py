"""A run's network as a file for other programs, and its model card."""
