"""The classifier, its schedules and callbacks, and ``train(cfg) -> float``."""
