"""Audit of recordings: measurements, made once, and rules that judge them."""
