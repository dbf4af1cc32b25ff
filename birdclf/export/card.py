"""A model card (Mitchell et al., 2019) of a run, as Markdown, from what its folder tells."""

import os
from pathlib import Path
from typing import Final

import birdclf
from birdclf.disk import write_whole, writing_to
from birdclf.errors import UserError
from birdclf.export.card_made import data, training
from birdclf.export.card_measured import calibration, figures, species
from birdclf.export.card_words import bullets, name, names
from birdclf.export.run_facts import RunFacts, read_facts
from birdclf.quoting import in_markdown

NO_LICENCE: Final = "Not stated: add one before sharing (`birdclf export RUN --format card --licence TEXT`)."


def card(run: Path, licence: str | None = None) -> str:
    """Return the model card of a run.

    Args:
        run: The run folder.
        licence: Under which the model may be used; None where that is not decided.

    Raises:
        UserError: If the run did not finish, or a file of it is missing or damaged.
    """
    facts = read_facts(run)
    try:
        return _card(facts, licence)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # a figure is no number, a list no list
        raise UserError(f"{run}: metrics.json or provenance.json is damaged: {error}. Restore it.") from error


def _card(facts: RunFacts, licence: str | None) -> str:
    sections = {
        "Use": _use(facts),
        "Intended use": _intended(facts),
        "Limits": _limits(facts),
        "Figures": figures(facts),
        "Calibration": calibration(facts),
        "Data": data(facts),
        "Species": species(facts),
        "Training": training(facts),
        "Licence": NO_LICENCE if licence is None else in_markdown(licence),
    }
    parts = [f"# {in_markdown(str(facts.config.get('name') or facts.folder.name))}", *_summary(facts)]
    for title, text in sections.items():
        parts += [f"## {title}", text]
    return "\n\n".join(parts) + "\n"


def write_card(out: Path, text: str) -> None:
    """Write a card.

    Raises:
        UserError: If the file exists or cannot be written.
    """
    if os.path.lexists(out):
        raise UserError(f"{out} exists already; nothing is overwritten. Choose another file with --out, or move it.")
    with writing_to(out.parent, "or choose another place with --out."):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, text)


def _summary(facts: RunFacts) -> list[str]:
    metrics = facts.metrics
    told = (
        f"Names the species in sound, {facts.window_s:g} s at a time: one of {metrics['classes']:,}. Network "
        f"{in_markdown(name(facts, 'model'))} with {metrics['parameters']:,} parameters, features "
        f"{in_markdown(name(facts, 'features'))}; card by birdclf {birdclf.__version__}."
    )
    if not facts.synthetic:
        return [told]
    return [
        "> **Trained on made-up sound.** Its recordings are those of birdclf's procedural aviary: no bird sang in "
        "any of them. It knows nothing of real birds, and its figures compare with those of no real collection.",
        told,
    ]


def _use(facts: RunFacts) -> str:
    return (
        "    birdclf predict RUN recordings/ --out results\n\n"
        "RUN is the run folder, or the file that `birdclf export RUN --format onnx` writes of it. In Python:\n\n"
        "    import birdclf\n"
        '    table = birdclf.load("RUN").predict("song.wav")\n\n'
        f"Sound of any sample rate is brought to {facts.sample_rate_hz:,} Hz mono; recordings of any length are cut "
        f"into windows of {facts.window_s:g} s."
    )


def _intended(facts: RunFacts) -> str:
    if facts.synthetic:
        fit = "trying and comparing methods for unbalanced classes on the procedural aviary, and nothing else."
    else:
        fit = (
            "sorting through recordings of the kind it was trained on, where a person checks what is found: which "
            "species may be there, and where to listen first."
        )
    return bullets(
        [
            f"For {fit}",
            "Not for counts of individuals, proof that a species is absent, or decisions about protected species or "
            "land without an expert's ear. Not for sounds of people.",
            "Other microphones, regions, seasons and noise than those of the training data need a test of their own "
            "before any figure below may be quoted for them.",
        ]
    )


def _limits(facts: RunFacts) -> str:
    table, test = facts.species, facts.metrics["test"]
    never = table[(table.test > 0) & (table.recall == 0)]
    untold = table[table.test == 0]
    rare = table[table.bucket == "few"]
    lines = [
        f"**Closed set.** Every sound is given one of the {facts.metrics['classes']:,} species, also rain, people "
        "and species that it does not know. A low probability is the only sign of that.",
        f"**One window.** It hears {facts.window_s:g} s at a time and nothing above {facts.sample_rate_hz / 2000:g} "
        "kHz. Probabilities of a window sum to 1, so that two birds at once share them.",
    ]
    if len(never):
        few = int((never.bucket == "few").sum())
        lines.append(
            f"**Never recognised.** {len(never)} of the {int((table.test > 0).sum())} species with a test recording "
            f"were not recognised in any of them, {few} of them few-shot: {names(never.species)}."
        )
    if len(untold):
        lines.append(f"**Not tested.** {len(untold)} species have no test recording: {names(untold.species)}.")
    if len(rare):
        f1 = (test["buckets"].get("few") or {}).get("f1")
        means = "" if f1 is None else f" Their mean F1 on test is {f1:.3f}."
        lines.append(
            f"**Rare species.** {len(rare)} have fewer than {facts.settings.few} train recordings.{means} With so few "
            "test recordings a figure of one species says little."
        )
    lines.append(_recordists(facts))
    return bullets(lines, escaped=True)


def _recordists(facts: RunFacts) -> str:
    found = facts.leaks[(facts.leaks.split == "test") & (facts.leaks.leak == "recordist")]
    if found.empty or int(found.known.iloc[0]) == 0:
        return (
            "**Recordists.** Who recorded what is not known. A recordist whose recordings are in train and in test "
            "flatters the figures, as microphone, place and individual are known already."
        )
    row = found.iloc[0]
    share = row.shared / max(int(row.recordings), 1)
    verdict = (
        "For recordists, places and microphones that are new expect less than the figures below."
        if row.shared
        else "The figures below are for recordists that are new."
    )
    return f"**Recordists.** {share:.1%} of the test recordings share a recordist with a training one. {verdict}"
