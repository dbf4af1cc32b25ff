"""What is wrong with recordings, measured once and judged by rules."""
