"""Corrections of logits after training."""
