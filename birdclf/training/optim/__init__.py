"""Which parameters learn, how fast, and by which schedule."""
