"""A trained checkpoint and recordings in, figures out."""
