"""From waveforms to features, and the packed store that keeps them on disk."""
