"""Give every setting wrong values: each is answered with one sentence, or works. Prints what ends in a stack trace.

python tests/checks/settings_walk.py [--of N --part I] [PATTERN ...]

Settings are found: every key of every file below ``conf/`` and of the schema, once each, with the first file of its
group that has it. All runs share one process, two species of short sounds and one store; PATTERN takes the keys that
contain it alone. The whole walk takes half an hour on one core.
"""

import argparse
import contextlib
import io
import logging
import os
import signal
import sys
import tarfile
import tempfile
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final

import numpy as np
import pandas as pd
import soundfile
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from birdclf.cli import main as birdclf
from birdclf.config import conf_dir

VALUES: Final = ("-1", "0", "1e400", "nan", "true", "null", "abc", "[]", "{}")
WALKED: Final = ("hydra", "experiment", "sweep", "pruning")
"""Groups whose files set what is walked over elsewhere, or that need a search."""
BASE: Final = {
    "data": "folder", "data.root": "sounds", "model": "audio_cnn", "model.width": "0.1", "trainer.max_epochs": "1",
    "trainer.accelerator": "cpu", "store.dir": "store", "store.workers": "0", "evaluation.draws": "100",
    "features.window_s": "1.0", "callbacks.progress": "null", "+trainer.enable_progress_bar": "false",
    "logger.tensorboard.embeddings": "false",
}  # fmt: skip
PROBED: Final = {
    "features": "embedder", "features.file": "embedder.onnx", "features.sample_rate_hz": "16000",
    "features.window_s": "1.0", "model": "linear_probe",
}  # fmt: skip
"""What a probe needs."""
BESIDE: Final = {
    **{f"model={name}_probe": PROBED | {"model": f"{name}_probe"} for name in ("linear", "mlp", "cosine", "prototype")},
    "model=attention_probe": PROBED | {"model": "attention_probe", "window.train": "bag"},
    "init=logistic": PROBED,
    "init=ridge": PROBED,
    "features=embedder": PROBED,
    "features=birdnet": {"model": "linear_probe"},
    "features=perch": {"model": "linear_probe", "features.file": "perch.onnx"},
    "features=vectors": {"model": "linear_probe", "features.file": "vectors.parquet"},
    "features=fusion": {"model": "linear_probe", "features.window_s": "5.0"},
    "data=manifest": {"data.path": "sounds/table.csv"},
    "data=raven": {"data.root": "tables"},
    "data=soundscape": {"data.root": "tables", "data.segment_s": "1"},
    "data=birdset": {"data.root": "birdset"},
    "data=synthetic": {"data.num_species": "2", "data.scale": "0.02", "data.min_per_species": "4"},
    "loss=ldam": {"model.head": "cosine"},
    **{f"loss={name}": {"task": "multi_label"} for name in ("bce", "bce_adjusted", "focal_bce", "asymmetric")},
    "features=ast": {"model": "ast_tiny", "model.depth": "1"},
    "model=ast": {"features": "ast", "model.depth": "1"},
    "model=ast_tiny": {"features": "ast", "model.depth": "1"},
    "split=predefined": {"data": "manifest", "data.path": "sounds/table.csv"},
    "split=file": {"split.path": "split.csv"},
    "augment=shift": {"augment.shift.max_s": "0.5"},
    "augment=lowpass": {"features": "log_mel", "augment.lowpass.max_cutoff_hz": "8000"},
}
"""What an option needs to run."""
ITS_OWN_WINDOW: Final = ("birdnet", "perch", "vectors")
"""Features without a setting of the window."""
LIMIT_S: Final = 60


class LateError(BaseException):
    """A run takes too long; nothing in it can catch this."""


def write_sounds(folder: Path) -> None:
    """Write six sounds of each of two species, a manifest, Raven tables, BirdSet's files and a split."""
    rng, rate = np.random.default_rng(0), 32_000
    t = np.arange(rate) / rate
    manifest, split = ["path,species,split"], ["recording_id,split"]
    table = "Selection\tBegin Time (s)\tEnd Time (s)\tSpecies\n"
    for species, hz in (("tit", 2000), ("finch", 4000)):
        (folder / "sounds" / species).mkdir(parents=True)
        (folder / "tables" / species).mkdir(parents=True)
        for i, stage in enumerate(("train", "train", "train", "val", "test", "train")):
            sound = 0.3 * np.sin(2 * np.pi * hz * (1 + 0.02 * i) * t) + 0.01 * rng.standard_normal(rate)
            for place in ("sounds", "tables"):
                soundfile.write(folder / place / species / f"{i}.wav", sound, rate)
            (folder / "tables" / species / f"{i}.txt").write_text(f"{table}1\t0\t1\t{species}\n")
            manifest.append(f"{species}/{i}.wav,{species},{stage}")
            split.append(f"{species}/{i}.wav,{stage}")
    (folder / "sounds" / "table.csv").write_text("\n".join(manifest) + "\n")
    (folder / "split.csv").write_text("\n".join(split) + "\n")
    write_birdset(folder / "birdset" / "HSN", folder / "sounds")
    for name, samples in (("embedder", 16_000), ("perch", 160_000)):
        write_embedder(folder / f"{name}.onnx", samples)
    ids = [line.partition(",")[0] for line in split[1:]]
    vectors = [np.arange(3, dtype=np.float32) * i for i in range(len(ids))]
    rows = {"recording_id": ids, "start_s": 0.0, "end_s": 1.0, "vector": vectors}
    pd.DataFrame(rows).to_parquet(folder / "vectors.parquet")


def write_birdset(folder: Path, sounds: Path) -> None:
    """Write the sounds as focal recordings and as segments."""
    folder.mkdir(parents=True)
    files = {f"{file.parent.name}_{file.name}": file for file in sorted(sounds.rglob("*.wav"))}
    codes = [name.partition("_")[0] for name in files]
    rows = pd.DataFrame({"filepath": list(files), "ebird_code": codes, "ebird_code_multilabel": [[c] for c in codes]})
    for table, shard, part in (("train", "train", slice(1, None)), ("test_5s", "test5s", slice(1))):
        kept = rows.groupby("ebird_code").nth(part)
        kept.to_parquet(folder / f"HSN_metadata_{table}.parquet")
        with tarfile.open(folder / f"HSN_{shard}_shard_0001.tar.gz", "w:gz") as archive:
            for name in kept.filepath:
                archive.add(files[name], name)


def write_embedder(path: Path, samples: int) -> None:
    """Write a network of windows ``(B, samples)`` with an output ``embedding`` of 4 values."""
    from onnx import TensorProto, helper, numpy_helper, save

    matrix = np.random.default_rng(0).standard_normal((samples, 4)).astype(np.float32) / samples**0.5
    sound, embedding = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", size])
        for name, size in (("sound", samples), ("embedding", 4))
    )
    node = helper.make_node("MatMul", ["sound", "matrix"], ["embedding"])
    graph = helper.make_graph([node], "made", [sound], [embedding], [numpy_helper.from_array(matrix, "matrix")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))


def settings() -> Iterator[tuple[dict[str, str], str]]:
    """Yield every key once, with the words that its run needs."""
    seen = set()
    conf = conf_dir()
    choices = [("", "")]
    for file in sorted(conf.glob("*/*.yaml"), key=lambda f: (f.stem not in ("default", BASE.get(f.parent.name)), f)):
        missing_extra = (
            file.parent.name == "logger" and file.stem in ("wandb", "mlflow") and find_spec(file.stem) is None
        )
        if file.parent.name not in WALKED and not missing_extra:
            choices.append((file.parent.name, file.stem))
    for group, option in choices:
        words = BASE | BESIDE.get(f"{group}={option}", {}) | ({group: option} if group else {})
        if words["data"] != "folder" and "data.root" not in BESIDE.get(f"{group}={option}", BASE):
            words.pop("data.root")
        if words.get("features") in ITS_OWN_WINDOW:
            words.pop("features.window_s")
        if not words["model"].startswith("audio_cnn"):
            words.pop("model.width")
        if words.get("logger", "tensorboard") != "tensorboard":
            words.pop("logger.tensorboard.embeddings")
        cfg = composed(words)
        top = [*map(str, cfg), *_keys(cfg.loader, "loader."), *_keys(cfg.store, "store.")]
        node = cfg[group] if group else None  # the group task sets one word, and settings of other groups
        for key in _keys(node if OmegaConf.is_dict(node) else {}, f"{group}.") if group else top:
            if key not in seen:
                seen.add(key)
                yield words, key


def composed(words: dict[str, str]) -> DictConfig:
    """Return the configuration of some words."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=[f"{key}={value}" for key, value in words.items()])


def _keys(node: Any, above: str) -> list[str]:
    found = []
    for name in node:
        if str(name).startswith("_"):
            continue
        found.append(f"{above}{name}")
        if OmegaConf.is_dict(node._get_node(name)) and not OmegaConf.is_missing(node, name) and node[name] is not None:
            found += _keys(node[name], f"{above}{name}.")
    return found


def outcome(words: dict[str, str], run: str) -> tuple[str, str]:
    """Run ``birdclf train`` and return how it ended (works, refused, trace or hangs), and its last words."""
    text = [f"{key}={value}" for key, value in words.items()] + ([] if "run_dir" in words else [f"hydra.run.dir={run}"])
    out, err = io.StringIO(), io.StringIO()
    root = logging.getLogger()
    handlers, path = root.handlers[:], sys.path[:]
    GlobalHydra.instance().clear()
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(LIMIT_S)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            birdclf(["train", *text])
    except LateError:
        return "hangs", f"more than {LIMIT_S} s"
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            return "refused", leaving.code
        said = [line for line in err.getvalue().splitlines() if line.strip()]
        return "refused" if leaving.code else "works", said[-1] if said else ""
    except BaseException:
        return "trace", traceback.format_exc().strip()
    finally:
        signal.alarm(0)
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        sys.path[:] = path
    if "Traceback" in err.getvalue():
        return "trace", err.getvalue()
    return "works", ""


def _late(number: int, frame: FrameType | None) -> None:
    raise LateError


def walk(folder: Path, part: int, of: int, patterns: list[str]) -> int:
    """Walk over a part of all keys and values, and return how many end in a stack trace."""
    os.chdir(folder)
    torch.set_num_threads(1)
    write_sounds(folder)
    failed, number = 0, 0
    whole: dict[str, str] = {}
    for words, key in settings():
        if patterns and not any(pattern in key for pattern in patterns):
            continue
        base = " ".join(f"{k}={v}" for k, v in words.items())
        for value in VALUES:
            number += 1
            if number % of != part:
                continue
            if base not in whole:
                whole[base], why = outcome(words, f"runs/base{len(whole)}")
                if whole[base] != "works":
                    print(f"NOT WALKED {base}: {why}", flush=True)
            kind, why = outcome(words | {key: value}, f"runs/{number}")
            if kind == "refused" and key.rpartition(".")[2] not in why:
                kind = "unnamed"
            failed += kind in ("trace", "hangs", "unnamed")
            print(f"{kind:8}{key}={value} :: {why if kind != 'trace' else why.splitlines()[-1]}", flush=True)
            if kind == "trace":
                print("        " + " | ".join(line.strip() for line in why.splitlines() if "birdclf/" in line)[-300:])
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        count = walk(Path(temporary).resolve(), arguments.part, arguments.of, arguments.patterns)
    sys.exit(f"{count} settings end in a stack trace" if count else 0)
