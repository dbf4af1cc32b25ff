"""What a model was made of: recordings, settings, machine and time."""

import shlex
from typing import Final

from birdclf.export.card_words import bullets, duration, name
from birdclf.export.run_facts import SPLITS, RunFacts, target
from birdclf.quoting import in_markdown, shown

LEAKS: Final = {"recordist": "recordist", "recordist_and_day": "recordist and day", "audio": "decoded sound"}


def data(facts: RunFacts) -> str:
    """Return where the recordings come from, and what splits share."""
    counts = [f"{int(facts.species[split].sum()):,} {split}" for split in SPLITS]
    lines = [
        f"Source: {in_markdown(str(facts.catalog('name') or 'not noted'))}"
        + (", birdclf's procedural aviary: made-up sound" if facts.synthetic else ""),
        f"Recordings: {', '.join(counts)}",
        f"Content hash of the source: {in_markdown(str(facts.catalog('content_hash') or 'not noted'))}",
        f"Split: {in_markdown(name(facts, 'split'))}, seed {in_markdown(str(facts.config.get('seed')))}",
    ]
    for row in facts.leaks[facts.leaks.known > 0].itertuples():
        said = LEAKS.get(str(row.leak), str(row.leak))
        lines.append(
            f"{row.shared:,} of {row.recordings:,} {in_markdown(str(row.split))} recordings share the "
            f"{in_markdown(said)} with a training one"
        )
    return bullets(lines, escaped=True)


def training(facts: RunFacts) -> str:
    """Return how the network was trained, on what and how long."""
    metrics, machine = facts.metrics, facts.provenance.get("machine") or {}
    lines = []
    if members := metrics.get("members"):
        lines.append(f"Weights are those of {len(members)} runs, averaged")
    elif metrics["epochs"]:
        lines.append(
            f"{metrics['epochs']} epochs, the best of which by {metrics['monitor']} is {metrics['best_epoch']}"
        )
    if facts.seconds is not None:
        lines.append(f"Time: {duration(facts.seconds)}")
    processor, gpu = machine.get("processor"), machine.get("gpu")
    if processor:
        lines.append(f"Hardware: {processor}, {machine.get('cpus')} CPUs, {gpu or 'no GPU'}")
    lines += [f"{group.capitalize()}: {name(facts, group)}" for group in ("loss", "optimizer", "sampler")
              if target(facts.config, group)]  # fmt: skip
    if versions := facts.provenance.get("versions"):
        lines.append("Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    settings = [word for word in facts.provenance.get("overrides") or [] if _tells(str(word))]
    text = bullets(lines)
    if settings:
        words = shown(shlex.join(["birdclf", "train", *map(str, settings)]))
        text += f"\n\nSettings that were chosen, but for folders:\n\n    {words}"
    return text


def _tells(word: str) -> bool:
    """Return whether an override says how it was trained, and not where files lie."""
    key, _, value = word.partition("=")
    elsewhere = key in ("resume", "run_dir", "data.root", "data.path") or key.startswith(("hydra", "store.", "sweep"))
    return not elsewhere and not {"/", "\\"} & set(value)
