"""Losses: ``Loss(class_counts, **settings)``, ``forward(logits, target)``."""
