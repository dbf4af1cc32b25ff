"""Networks: features ``(B, C, F, T)`` to logits ``(B, K)``."""
