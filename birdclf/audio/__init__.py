"""Audio input: files and procedural sound as mono float32 waveforms; knows nothing of species or models."""
