import json
from pathlib import Path

import pandas as pd
from hydra.core.hydra_config import HydraConfig

from birdclf.data.sources.synthetic import synthetic_catalog
from birdclf.features.mfcc import MFCCStack
from birdclf.training.results import split_hash, write_provenance


def test_no_person_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # a command that ran before in this process leaves its own
    catalog = synthetic_catalog(scale=0.01, num_species=3)
    object.__setattr__(catalog, "name", "folder /home/somebody/birds")
    split = pd.DataFrame({"recording_id": catalog.table.recording_id, "split": "train"})
    write_provenance(tmp_path, catalog, MFCCStack(), split, seed=5, precision="32-true")
    text = (tmp_path / "provenance.json").read_text()
    content = json.loads(text)
    assert "somebody" not in text and content["catalog"]["name"] == "folder ~/birds"
    assert content["command"] == [] and content["overrides"] == [], "it was not called from the command line"
    assert content["catalog"]["content_hash"] == catalog.content_hash and content["seed"] == 5
    assert set(content["machine"]) == {"system", "processor", "cpus", "memory_gb", "gpu"}


def test_the_hash_of_a_split_depends_on_names_and_stages_alone():
    split = pd.DataFrame({"recording_id": ["a", "b"], "split": ["train", "test"]})
    assert split_hash(split) == split_hash(split[::-1].assign(species="robin"))
    assert split_hash(split) != split_hash(split.assign(split=["test", "train"]))
    assert split_hash(split) != split_hash(split.assign(recording_id=["a", "c"]))
