"""What was measured of a model: the tables of its card."""

from typing import Final

from birdclf.export.card_words import interval, number, table
from birdclf.export.run_facts import RunFacts
from birdclf.quoting import in_markdown

FIGURES: Final = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1, all species",
    "macro_f1_evaluable": "macro F1, species with a recording",
    "balanced_accuracy": "balanced accuracy",
    "weighted_f1": "weighted F1",
    "top5_accuracy": "top-5 accuracy",
    "macro_average_precision": "mean average precision (cmAP)",
}


def figures(facts: RunFacts) -> str:
    """Return the tables of metrics, and of the buckets on test."""
    val, test = facts.metrics["val"], facts.metrics["test"]
    rows = [[said, interval(val.get(key)), interval(test.get(key))] for key, said in FIGURES.items() if key in test]
    rows.append(["recordings", f"{val['clips']:,}", f"{test['clips']:,}"])
    few, many = facts.settings.few, facts.settings.many
    limits = {"many": f"more than {many}", "medium": f"{few} to {many}", "few": f"fewer than {few}"}
    buckets = []
    for name, said in limits.items():
        own = test["buckets"].get(name) or {}
        f1 = {"value": own.get("f1"), "low": own.get("f1_low"), "high": own.get("f1_high")}
        buckets.append(
            [f"{name}-shot", said, f"{own.get('classes', 0):,}", interval(f1), number(own.get("precision")),
             number(own.get("recall"))]
        )  # fmt: skip
    heads = ["bucket", "train recordings", "species with a test recording", "F1", "precision", "recall"]
    window = (facts.config.get("window") or {}).get("eval", "center")
    return (
        f"With intervals of {facts.settings.confidence:.0%}, for other recordings drawn alike; one window a recording "
        f"unless all are averaged (window: {in_markdown(str(window))}).\n\n"
        + table(["", "validation", "test"], rows, "lrr")
        + "\n\nOn test, by how many recordings a species has in train:\n\n"
        + table(heads, buckets, "llrrrr")
    )


def calibration(facts: RunFacts) -> str:
    """Return what the temperature did."""
    rows = [
        [said, *(number(facts.metrics[split].get(key)) for split in ("val", "test"))]
        for key, said in (
            ("ece", "calibration error"),
            ("ece_calibrated", "calibration error, calibrated"),
            ("nll", "negative log-likelihood"),
            ("nll_calibrated", "negative log-likelihood, calibrated"),
        )
    ]
    adjusted = (
        "Logits are adjusted for how often a species was heard in training. " if facts.metrics.get("adjustment") else ""
    )
    return (
        f"{adjusted}Logits are divided by a temperature of {facts.metrics['temperature']:.3g}, fitted on validation, "
        "before they become probabilities.\n\n" + table(["", "validation", "test"], rows, "lrr")
    )


def species(facts: RunFacts) -> str:
    """Return the table of species."""
    t = facts.species
    rows = [
        [in_markdown(name), f"{train:,}", f"{val:,}", f"{test:,}", bucket, number(f1)]
        for name, train, val, test, bucket, f1 in zip(t.species, t.train, t.val, t.test, t.bucket, t.f1, strict=True)
    ]
    sizes = facts.species.bucket.value_counts()
    told = ", ".join(f"{sizes.get(name, 0)} {name}-shot" for name in ("many", "medium", "few"))
    heads = ["species", "train", "val", "test", "bucket", "F1 on test"]
    return f"{len(rows)}: {told}.\n\n" + table(heads, rows, "lrrrlr")
