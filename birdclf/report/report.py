"""The report on runs and sweeps: what is real, for which species, and how to repeat it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from birdclf.errors import UserError
from birdclf.files import refuse_existing, write_whole
from birdclf.report.configurations import Configuration, best_first, chosen, configurations
from birdclf.report.document import Bullets, Section, counted, markdown, page
from birdclf.report.paired_tests import compare
from birdclf.report.sections.calibration import calibration_section
from birdclf.report.sections.comparison import comparison_rows, comparison_section, table_section
from birdclf.report.sections.criteria import criteria_section
from birdclf.report.sections.factors import factors_section
from birdclf.report.sections.gallery import gallery_section
from birdclf.report.sections.learning_curve import learning_curve_section
from birdclf.report.sections.pictures import results_section
from birdclf.report.sections.published import published_section, repeat_section
from birdclf.report.sections.search import search_section, studies_below
from birdclf.report.sections.soundscapes import soundscapes_section
from birdclf.report.sections.species import species_section
from birdclf.report.sections.summary import summary_section
from birdclf.report.sections.training import training_section
from birdclf.runs.run import LeftOut, find_runs, read_runs

FILES: Final = ("comparison.csv", "report.md", "report.html")
GALLERY_BYTES: Final = 6_000_000  # 8 MB in base64, which leaves room for the figures of 40 runs under 15 MB


@dataclass(frozen=True)
class Report:
    """A report that was written."""

    folder: Path
    sections: tuple[Section, ...]
    configurations: tuple[Configuration, ...]
    left_out: tuple[LeftOut, ...]


def report(
    paths: Sequence[Path],
    out: Path,
    reference: str | None = None,
    with_gallery: bool = True,
) -> Report:
    """Write ``report.md``, ``report.html`` and ``comparison.csv``.

    Args:
        paths: Run folders, or folders that hold some, such as a sweep's.
        out: Folder to write; a report in it is never overwritten.
        reference: Label or experiment name of the configuration that the tests are about; None takes the best.
        with_gallery: Whether to embed sounds and spectrograms of mistakes.

    Raises:
        UserError: If ``out`` holds a report, no run can be used, or the reference is none of them.
    """
    for name in FILES:
        refuse_existing(out / name, "Choose another folder with --out.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out must be a folder.")
    runs, unusable = read_runs(find_runs(paths))
    if not runs:
        message = "\n".join(f"  {folder}: {reason}" for folder, reason in unusable)
        raise UserError(f"None of the {counted(len(unusable), 'run folder')} can be reported on:\n{message}")
    found, repeated = configurations(runs)
    left_out = [*unusable, *repeated]
    ranked, monitor = best_first(found)
    first = chosen(ranked, reference)
    sections = _sections(ranked, monitor, first, left_out, with_gallery, studies_below(paths))
    title = f"Report on {ranked[0].label}" if len(ranked) == 1 else f"Report on {len(ranked)} configurations"
    out.mkdir(parents=True, exist_ok=True)
    table = comparison_rows(ranked, first.first.evaluation).to_csv(index=False)
    for name, text in zip(FILES, (table, markdown(title, sections), page(title, sections)), strict=True):
        write_whole(out / name, text.encode(errors="backslashreplace"))
    return Report(out, sections, tuple(ranked), tuple(left_out))


def _sections(
    ranked: list[Configuration],
    monitor: str,
    reference: Configuration,
    left_out: list[LeftOut],
    with_gallery: bool,
    studies: Sequence[Path],
) -> tuple[Section, ...]:
    settings = reference.first.evaluation
    comparisons = compare(reference, [c for c in ranked if c is not reference], settings)
    curve = learning_curve_section(ranked, settings)
    field = soundscapes_section(ranked)
    criteria, verdicts = criteria_section(reference, comparisons, settings)
    sections = [
        summary_section(reference, ranked, monitor, comparisons, verdicts, left_out, settings),
        results_section(reference, ranked, comparisons, settings),
        *([curve] if curve else []),
        factors_section(ranked, settings),
        table_section(ranked, monitor, settings),
        comparison_section(reference, comparisons, settings),
        *(search_section(study, f"search-{i}" if i else "search") for i, study in enumerate(studies)),
        criteria,
        published_section(ranked),
        *([field] if field else []),
        training_section(ranked, settings),
        calibration_section(ranked, settings),
        species_section(reference, settings),
    ]
    if with_gallery:
        sections.append(gallery_section(reference.label, reference.first, GALLERY_BYTES))
    sections.append(repeat_section(ranked))
    if left_out:
        items = tuple(f"{folder}: {reason}" for folder, reason in left_out)
        sections.append(Section("left-out", "Left out", (Bullets(items),)))
    return tuple(sections)
