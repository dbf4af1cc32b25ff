"""Augmentation of training batches, on the device; it sees stored features, never sound."""
