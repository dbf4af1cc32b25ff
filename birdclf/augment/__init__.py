"""Augmentation of training batches, on the device; it acts on stored features, not on sound."""
