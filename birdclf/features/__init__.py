"""Features of sound: waveforms to stored bands, and these to the input of a network."""
