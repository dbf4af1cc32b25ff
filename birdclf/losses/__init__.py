"""Losses: ``Loss(class_counts, **knobs)``, ``forward(logits, target)``."""
