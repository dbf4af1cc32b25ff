"""Run folders: reading, evaluation and combination; nothing in their files is executed."""
