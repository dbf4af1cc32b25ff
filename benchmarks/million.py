"""Load, split and group a made-up catalogue of a million recordings; print the seconds and the peak memory in GB.

python benchmarks/million.py TABLE.parquet
"""

import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from birdclf.audio.files import FileReader
from birdclf.data.catalog import Catalog
from birdclf.data.splits import GroupedSplit, StratifiedSplit

RECORDINGS, SPECIES, RECORDISTS = 1_000_000, 1_000, 20_000


def write(path: Path) -> None:
    """Write the table: species with a long tail, recordists of whom few contribute much."""
    rng = np.random.default_rng(1)
    ids = np.char.add("XC", np.arange(RECORDINGS).astype(str))
    species = np.minimum(rng.zipf(1.3, RECORDINGS), SPECIES)
    group = np.minimum(rng.zipf(1.2, RECORDINGS), RECORDISTS)
    pd.DataFrame(
        {
            "recording_id": ids,
            "species": np.char.add("species ", species.astype(str)),
            "path": np.char.add(np.char.add("/recordings/", ids), ".ogg"),
            "group": np.char.add("recordist ", group.astype(str)),
        }
    ).to_parquet(path)


def main() -> None:
    began = time.perf_counter()
    catalog = Catalog(pd.read_parquet(sys.argv[1]), FileReader(), "million")
    catalog.content_hash  # noqa: B018, part of loading: it names the feature store
    for split in (StratifiedSplit(), GroupedSplit()):
        assert len(split.assign(catalog, seed=1)) > 0
    seconds = time.perf_counter() - began
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


if __name__ == "__main__":
    main()
