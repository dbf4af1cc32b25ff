"""A model card (Mitchell et al., 2019) of a run, as Markdown, from its run folder."""

import shlex
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

import birdclf
from birdclf.data.splits import STAGES
from birdclf.data.tables import read_own
from birdclf.errors import UserError
from birdclf.export import OTHER_FILE
from birdclf.features import embedders
from birdclf.features.embedders.embedder import Embedder, VectorFeatures
from birdclf.files import refuse_existing, write_whole, writing_to
from birdclf.runs.checkpoint import load_features
from birdclf.runs.run import Run
from birdclf.targets import HEADLINES, NONE
from birdclf.text import in_markdown, markdown_table, printable


class CardRun(Run):
    """A finished run, and what a card says of it."""

    @cached_property
    def species(self) -> pd.DataFrame:
        """A row a class, commonest first.

        Columns ``species``, recordings in ``train``, ``val`` and ``test``, ``precision``, ``recall`` and ``f1`` on test
        (NaN where there is no recording to tell), of sets also ``average_precision`` and ``auroc``, and ``bucket``.
        """
        figures = ["precision", "recall", "f1"]
        if self.task == "multi_label":
            split = self.split.explode("labels").dropna(subset="labels")
            split = split.assign(species=split.labels)
            figures += ["average_precision", "auroc"]
        else:
            split = self.split
        counts = pd.crosstab(split.species, split.split).reindex(columns=list(STAGES), fill_value=0)
        table = counts.rename_axis(columns=None).reset_index()
        if (self.folder / "per_class.csv").is_file():
            read = read_own(self.folder / "per_class.csv")[["species", *figures]]
            table = table.merge(
                read.replace("", np.nan).astype(dict.fromkeys(figures, float)), on="species", how="left"
            )
        else:
            table[figures] = np.nan
        table.loc[table.test == 0, figures] = np.nan
        table["bucket"] = ""
        for name, members in self.evaluation.buckets(table.train.to_numpy(dtype=np.int64)).items():
            table.loc[members, "bucket"] = name
        return table.sort_values(["train", "species"], ascending=[False, True], ignore_index=True)

    @cached_property
    def leaks(self) -> pd.DataFrame:
        """Content of ``leaks.csv``; no rows where there is none."""
        columns, file = ["split", "leak", "recordings", "known", "shared"], self.folder / "leaks.csv"
        if not file.is_file():
            return pd.DataFrame(columns=columns)
        try:
            return read_own(file)[columns].astype(dict.fromkeys(columns[2:], int))
        except (KeyError, ValueError) as error:
            raise UserError(f"{file} is damaged: {error}. Restore it.") from error

    @property
    def synthetic(self) -> bool:
        """Whether it was trained on the procedural aviary."""
        return target(self.config, "data").startswith("birdclf.data.sources.synthetic.")

    def catalog(self, name: str) -> Any:
        """Return a fact of the source; None where the run does not have it."""
        return (self.provenance.get("catalog") or {}).get(name)

    @property
    def best(self) -> Path:
        """The checkpoint that a card is of."""
        return self.folder / "checkpoints" / "best.ckpt"

    @cached_property
    def frozen(self) -> VectorFeatures | None:
        """Features that are vectors of a frozen network; None for others."""
        if not target(self.config, "features").startswith(f"{embedders.__name__}."):
            return None
        features = load_features(self.best)
        return features if isinstance(features, VectorFeatures) else None

    @property
    def window_s(self) -> float:
        """Length of a window in seconds."""
        if self.frozen is not None:
            return self.frozen.window_samples / self.frozen.sample_rate_hz
        return float((self.config.get("features") or {}).get("window_s", 5.0))

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate that features are made at."""
        if self.frozen is not None:
            return self.frozen.sample_rate_hz
        return int((self.config.get("features") or {}).get("sample_rate_hz", 16_000))  # of AST, which has no other

    def check(self) -> None:
        """Read what a card relies on.

        Raises:
            UserError: If the run is not finished, has no checkpoint, or a file of it is missing or damaged.
        """
        _ = self.config, self.metrics
        if not self.best.is_file():
            raise UserError(f"{self.best} does not exist: there is no network to describe.")
        _ = self.frozen
        facts = ("parameters", "classes", "temperature", "best_epoch", "epochs", "monitor")
        try:
            _ = self.evaluation, self.species, [self.metrics[name] for name in facts]
            for split in STAGES[1:]:
                names = (
                    ("balanced_accuracy",) if self.task == "single_label" else ("auroc", "false_detections_per_hour")
                )
                _ = [self.metrics[split][name] for name in (*HEADLINES[self.task], *names, "buckets", "clips")]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self.folder}: metrics.json, split.csv or per_class.csv is damaged or of another program: {error}. "
                f"Restore it."
            ) from error
        _ = self.leaks, self.provenance, self.seconds


def target(config: Mapping[str, Any], group: str) -> str:
    """Return the dotted name of what a group builds; empty where there is none."""
    node = config.get(group)
    return str(node.get("_target_", "")) if isinstance(node, Mapping) else ""


def name(facts: CardRun, group: str) -> str:
    """Return the name of what a group builds, such as ``AudioCNNv2``."""
    return target(facts.config, group).rpartition(".")[2] or "unknown"


def names(names: Iterable[str]) -> str:
    """Return names one behind the other."""
    return ", ".join(map(in_markdown, names))


def interval(figure: Any) -> str:
    """Return a figure with its interval, if it has one."""
    if not isinstance(figure, Mapping):
        return number(figure)
    if figure.get("low") is None or figure.get("high") is None:
        return number(figure.get("value"))
    return f"{number(figure.get('value'))} ({number(figure['low'])} to {number(figure['high'])})"


def number(value: Any) -> str:
    """Return a figure with three digits, or a dash for none."""
    return f"{value:.3f}" if isinstance(value, int | float) and value == value else "–"


def duration(seconds: float) -> str:
    """Return a time in hours or seconds."""
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds:.0f} s"


def bullets(lines: Iterable[str], escaped: bool = False) -> str:
    """Return a list; ``escaped`` lines hold Markdown that is not escaped again."""
    return "\n".join(f"- {line if escaped else in_markdown(line)}" for line in lines)


LEAKS: Final = {"recordist": "recordist", "recordist_and_day": "recordist and day", "audio": "decoded sound"}


def data(facts: CardRun) -> str:
    """Return where the recordings come from, and what splits share."""
    counts = [f"{int((facts.split.split == split).sum()):,} {split}" for split in STAGES]
    lines = [
        f"Source: {in_markdown(str(facts.catalog('name') or 'not noted'))}"
        + (", birdclf's procedural aviary: made-up sound" if facts.synthetic else ""),
        f"Recordings: {', '.join(counts)}",
        f"Content hash of the source: {in_markdown(str(facts.catalog('content_hash') or 'not noted'))}",
        f"Split: {in_markdown(name(facts, 'split'))}, seed {in_markdown(str(facts.split_seed))}",
    ]
    for row in facts.leaks[facts.leaks.known > 0].itertuples():
        text = LEAKS.get(str(row.leak), str(row.leak))
        lines.append(
            f"{row.shared:,} of {row.recordings:,} {in_markdown(str(row.split))} recordings share the "
            f"{in_markdown(text)} with a training one"
        )
    return bullets(lines, escaped=True)


def training(facts: CardRun) -> str:
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
        words = printable(shlex.join(["birdclf", "train", *map(str, settings)]))
        text += f"\n\nSettings that were chosen, but for folders:\n\n    {words}"
    return text


def _tells(word: str) -> bool:
    """Return whether an override says how it was trained, and not where files lie."""
    key, _, value = word.partition("=")
    places = ("resume", "run_dir", "data.root", "data.path", "data.annotations")
    elsewhere = key in places or key.startswith(("hydra", "store.", "sweep"))
    return not elsewhere and not {"/", "\\"} & set(value)


FIGURES_OF_SETS: Final = {
    "cmap": "mean average precision (cmAP)", "auroc": "mean AUROC", "t1_accuracy": "top-1 accuracy",
    "macro_f1": "macro F1", "micro_f1": "micro F1", "false_detections_per_hour": "false detections an hour",
}  # fmt: skip
FIGURES: Final = {
    "accuracy": "accuracy", "macro_f1": "macro F1, all species",
    "macro_f1_evaluable": "macro F1, species with a recording", "balanced_accuracy": "balanced accuracy",
    "weighted_f1": "weighted F1", "top5_accuracy": "top-5 accuracy",
    "macro_average_precision": "mean average precision (cmAP)",
}  # fmt: skip


def figures(facts: CardRun) -> str:
    """Return the tables of metrics, and of the buckets on test."""
    val, test = facts.metrics["val"], facts.metrics["test"]
    of_sets = facts.task == "multi_label"
    known = FIGURES_OF_SETS if of_sets else FIGURES
    rows = [[text, interval(val.get(key)), interval(test.get(key))] for key, text in known.items() if key in test]
    rows.append(["recordings", f"{val['clips']:,}", f"{test['clips']:,}"])
    few, many = facts.evaluation.few, facts.evaluation.many
    limits = {"many": f"more than {many}", "medium": f"{few} to {many}", "few": f"fewer than {few}"}
    buckets = []
    for name, text in limits.items():
        own = test["buckets"].get(name) or {}
        first, *others = ("cmap", "auroc", "f1") if of_sets else ("f1", "precision", "recall")
        figure = {"value": own.get(first), "low": own.get(f"{first}_low"), "high": own.get(f"{first}_high")}
        buckets.append(
            [f"{name}-shot", text, f"{own.get('classes', 0):,}", interval(figure),
             *(number(own.get(other)) for other in others)]
        )  # fmt: skip
    heads = ["bucket", "train recordings", "species with a test recording"]
    heads += ["cmAP", "AUROC", "F1"] if of_sets else ["F1", "precision", "recall"]
    window = (facts.config.get("window") or {}).get("eval", "center")
    return (
        f"With intervals of {facts.evaluation.confidence:.0%}, for other recordings drawn alike; one window a "
        f"recording unless all are averaged (window: {in_markdown(str(window))})."
        + (_of_sets(facts) if of_sets else "")
        + "\n\n"
        + markdown_table(["", "validation", "test"], rows, (1, 2))
        + "\n\nOn test, by how many recordings a species has in train:\n\n"
        + markdown_table(heads, buckets, range(2, 6))
    )


def _of_sets(facts: CardRun) -> str:
    """Return what the figures of sets of species are over."""
    hours = facts.metrics["test"]["empty_hours"]
    empty = (
        f"the {hours:.2f} hours of test sound without any of them"
        if hours
        else "sound without any, of which there is none"
    )
    return (
        f" F1 and false detections are at a probability of {facts.evaluation.threshold:g}; means are over the species "
        f"that are heard, false detections over {empty}."
    )


def calibration(facts: CardRun) -> str:
    """Return what the temperature did."""
    rows = [
        [text, *(number(facts.metrics[split].get(key)) for split in ("val", "test"))]
        for key, text in (
            ("ece", "calibration error"),
            ("ece_calibrated", "calibration error, calibrated"),
            ("nll", "negative log-likelihood"),
            ("nll_calibrated", "negative log-likelihood, calibrated"),
        )
    ]
    adjusted = (
        "Logits are adjusted for how often a species occurs in training. " if facts.metrics.get("adjustment") else ""
    )
    if rejection := facts.metrics.get("rejection"):
        adjusted = (
            f"Sounds whose energy is unlike that of the training recordings are rejected: nothing is detected in them. "
            f"That holds for {rejection['val_rejected']:.1%} of the validation and {rejection['test_rejected']:.1%} of "
            f"the test recordings, which the figures count all the same. "
        )
    return (
        f"{adjusted}Logits are divided by a temperature of {facts.metrics['temperature']:.3g}, fitted on validation, "
        "before they become probabilities.\n\n" + markdown_table(["", "validation", "test"], rows, (1, 2))
    )


def species(facts: CardRun) -> str:
    """Return the table of species."""
    t = facts.species
    shown = (
        {"average_precision": "average precision on test", "auroc": "AUROC on test"}
        if facts.task == "multi_label"
        else {}
    )
    shown |= {"f1": "F1 on test"}
    rows = [
        [in_markdown(name), f"{train:,}", f"{val:,}", f"{test:,}", bucket, *map(number, own)]
        for name, train, val, test, bucket, *own in zip(
            t.species, t.train, t.val, t.test, t.bucket, *(t[key] for key in shown), strict=True
        )
    ]
    sizes = facts.species.bucket.value_counts()
    text = ", ".join(f"{sizes.get(name, 0)} {name}-shot" for name in ("many", "medium", "few"))
    heads = ["species", "train", "val", "test", "bucket", *shown.values()]
    return f"{len(rows)}: {text}.\n\n" + markdown_table(heads, rows, (1, 2, 3, *range(5, len(heads))))


NO_LICENCE: Final = "Not stated: add one before sharing (`birdclf export RUN --format card --licence TEXT`)."


def card(run: Path, licence: str | None = None) -> str:
    """Return the model card of a run.

    Raises:
        UserError: If the run did not finish, or a file of it is missing or damaged.
    """
    facts = CardRun(run)
    facts.check()
    try:
        return _card(facts, licence)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # a figure is no number, a list no list
        raise UserError(f"{run}: metrics.json or provenance.json is damaged: {error}. Restore it.") from error


def _card(facts: CardRun, licence: str | None) -> str:
    sections = {
        "Use": _use(facts),
        "Intended use": _intended(facts),
        "Limits": _limits(facts),
        "Figures": figures(facts),
        "Calibration": calibration(facts),
        "Data": data(facts),
        "Species": species(facts),
        "Training": training(facts),
        "Licence": _licence(facts, NO_LICENCE if licence is None else in_markdown(licence)),
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
    refuse_existing(out, OTHER_FILE)
    with writing_to(out.parent, "or choose another place with --out."):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, text)


def _summary(facts: CardRun) -> list[str]:
    metrics = facts.metrics
    which = f"one of {metrics['classes']:,}"
    if facts.task == "multi_label":
        which = f"those that it hears of {metrics['classes']:,}, several or none"
    text = (
        f"Names the species in sound, {facts.window_s:g} s at a time: {which}. Network "
        f"{in_markdown(name(facts, 'model'))} with {metrics['parameters']:,} parameters, features "
        f"{in_markdown(name(facts, 'features'))}; card by birdclf {birdclf.__version__}."
    )
    paragraphs = [text]
    if facts.synthetic:
        paragraphs.insert(
            0,
            "> **Trained on made-up sound.** Its recordings are those of birdclf's procedural aviary: no bird sang in "
            "any of them. It knows nothing of real birds, and its figures compare with those of no real collection.",
        )
    if facts.frozen is not None:
        paragraphs.append(
            f"**Frozen features.** It takes vectors of {facts.frozen.n_bands:,} values, whose network was not trained "
            f"here: {_source(facts.frozen)}."
        )
    return paragraphs


def _source(frozen: VectorFeatures) -> str:
    """Return where the vectors of a frozen network come from, as Markdown."""
    if not isinstance(frozen, Embedder):
        return in_markdown(type(frozen).__name__)
    return f"{in_markdown(frozen.file.name)}, content hash {in_markdown(frozen.content_hash)}"


def _licence(facts: CardRun, own: str) -> str:
    if facts.frozen is None:
        return own
    weights = in_markdown(facts.frozen.licence) if facts.frozen.licence else "not known. Ask who made it before sharing"
    return bullets(
        [f"Weights of the frozen network, {_source(facts.frozen)}: {weights}", f"This model: {own}"], escaped=True
    )


def _use(facts: CardRun) -> str:
    return (
        "    birdclf predict RUN recordings/ --out results\n\n"
        "RUN is the run folder, or the file that `birdclf export RUN --format onnx` writes of it. In Python:\n\n"
        "    import birdclf\n"
        '    table = birdclf.load("RUN").predict("song.wav")\n\n'
        f"Sound of any sample rate is brought to {facts.sample_rate_hz:,} Hz mono; recordings of any length are cut "
        f"into windows of {facts.window_s:g} s."
        + (
            " The frozen network's file is needed too: `--embedder FILE` says where it is, unless it is inside the "
            "exported file or in an installed package."
            if isinstance(facts.frozen, Embedder)
            else ""
        )
    )


def _intended(facts: CardRun) -> str:
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


def _limits(facts: CardRun) -> str:
    table, test = facts.species, facts.metrics["test"]
    never = table[(table.test > 0) & (table.recall == 0)]
    untested = table[table.test == 0]
    rare = table[table.bucket == "few"]
    lines = _hears(facts)
    if len(never):
        few = int((never.bucket == "few").sum())
        lines.append(
            f"**Never recognised.** {len(never)} of the {int((table.test > 0).sum())} species with a test recording "
            f"were not recognised in any of them, {few} of them few-shot: {names(never.species)}."
        )
    if len(untested):
        lines.append(f"**Not tested.** {len(untested)} species have no test recording: {names(untested.species)}.")
    if len(rare):
        key, text = ("cmap", "cmAP") if facts.task == "multi_label" else ("f1", "mean F1")
        figure = (test["buckets"].get("few") or {}).get(key)
        means = "" if figure is None else f" Their {text} on test is {figure:.3f}."
        lines.append(
            f"**Rare species.** {len(rare)} have fewer than {facts.evaluation.few} train recordings.{means} With so "
            "few test recordings a figure of one species says little."
        )
    lines.append(_recordists(facts))
    return bullets(lines, escaped=True)


def _hears(facts: CardRun) -> list[str]:
    """Return what a window can be said to hold."""
    highest = facts.sample_rate_hz / 2000
    window = f"**One window.** It takes {facts.window_s:g} s at a time and nothing above {highest:g} kHz."
    known = f"the {facts.metrics['classes']:,} species"
    if facts.task == "multi_label":
        return [
            f"**Only its species.** It can hear {known} alone, of which a sound may hold several or none. A species "
            "that it does not know may be taken for one that is like it.",
            f"{window} Each species has a probability of its own; they do not sum to 1.",
        ]
    shares = "Probabilities of a window sum to 1, so that two birds at once share them."
    if NONE in set(facts.species.species):
        others = f"{facts.metrics['classes'] - 1:,}"
        return [
            f"**Closed set.** Every sound is given one of {others} species, or the class `{NONE}`: sound like the "
            "recordings without any of them that it was trained on, which is no detection. Species that it does not "
            "know, and noise unlike that in training, may still be given a name.",
            f"{window} {shares}",
        ]
    return [
        f"**Closed set.** Every sound is given one of {known}, also rain, people and species that it does not know. A "
        "low probability is the only sign of that.",
        f"{window} {shares}",
    ]


def _recordists(facts: CardRun) -> str:
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
