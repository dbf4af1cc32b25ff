"""From a file or a procedure to a mono float32 waveform; knows nothing of species or models."""
