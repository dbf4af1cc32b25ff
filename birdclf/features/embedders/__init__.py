"""Frozen networks of others as features: one vector per window of sound."""
