"""``python -m birdclf``."""

from birdclf.cli import main

main()
