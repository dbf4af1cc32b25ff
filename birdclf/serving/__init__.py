"""A local page: drop a recording, see and hear what is detected in it, and correct it for the next training."""
