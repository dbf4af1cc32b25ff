import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from birdclf.audit.rules import Rules


@pytest.fixture
def bench(program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = program("bench")
    monkeypatch.setattr(module, "busy_cpus", lambda: 0.0)  # it waits for seconds
    return module


def part(bench: ModuleType, value: float, fails: bool = False):
    def measure(folder: Path) -> dict[str, float]:
        assert folder.is_dir()
        if fails:
            raise RuntimeError("the rival ended with 1")
        return {"ratio": value}

    def rows(found: dict[str, float]):
        return [bench.rows.Row("speed", found["ratio"], "", "in turns", at_least=2)]

    return bench.Part("measuring", measure, rows)


def test_a_part_that_fails_stops_no_other_and_is_named(bench, tmp_path, monkeypatch) -> None:
    parts = {"first": part(bench, 2.5), "second": part(bench, 0.0, fails=True), "third": part(bench, 1.5)}
    monkeypatch.setattr(bench, "PARTS", parts)
    console = Console(record=True, width=120)
    path = tmp_path / "bench.json"

    assert bench.run(list(parts), path, console) == ["second"]

    kept = json.loads(path.read_text())
    assert kept["measured"] == {"first": {"ratio": 2.5}, "third": {"ratio": 1.5}}
    assert list(kept["failed"]) == ["second"] and set(kept["seconds"]) == set(parts)
    said = console.export_text()
    assert "second failed" in said and "the rival ended with 1" in said
    assert [row["value"] for row in kept["rows"]] == [2.5, 1.5]


def test_a_change_of_jobs_is_from_an_epoch_to_the_first_step_of_the_next(bench, program) -> None:
    changes = program("jobs").Changes()
    changes.begin()  # the first job comes after none
    work = changes._timed("catalog", lambda: "found")
    for _ in range(2):
        changes.end()
        assert work() == "found"
        changes.fit_began = (0.0, 0.0)
        changes.begin()
        changes.begin()  # its later steps
    assert len(changes.rows) == 2
    assert all(row["wall_s"] > 0 and row["stages"]["catalog"] >= 0 for row in changes.rows)
    found = {
        side: {"wall_s": 1.5, "cpu_s": 1.4, "stages": changes.rows[0]["stages"]} for side in ("defaults", "no figures")
    }
    verdicts = [row.verdict for row in bench.rows.of_jobs(found)]
    assert verdicts[:2] == ["[green]met[/]", "[red]not met[/]"] and set(verdicts[2:]) == {""}


def test_what_was_measured_outlives_an_interruption(bench, tmp_path, monkeypatch) -> None:
    def stop(folder: Path) -> None:
        raise KeyboardInterrupt

    parts = {"first": part(bench, 2.5), "second": bench.Part("measuring", stop, list)}
    monkeypatch.setattr(bench, "PARTS", parts)
    with pytest.raises(KeyboardInterrupt):
        bench.run(list(parts), tmp_path / "bench.json", Console(quiet=True))
    assert json.loads((tmp_path / "bench.json").read_text())["measured"] == {"first": {"ratio": 2.5}}


@pytest.mark.parametrize(
    ("value", "limits", "verdict"),
    [
        (2.0, {"at_least": 2}, "[green]met[/]"),
        (1.9, {"at_least": 2}, "[red]not met[/]"),
        (1.5, {"at_most": 1.5}, "[green]met[/]"),
        (1.6, {"at_most": 1.5}, "[red]not met[/]"),
        (9.9, {}, ""),
    ],
)
def test_a_figure_is_held_to_its_target(bench, value, limits, verdict) -> None:
    assert bench.rows.Row("speed", value, "", "", **limits).verdict == verdict


def test_a_made_up_store_has_all_that_the_audit_reads(program: Callable[[str], ModuleType], tmp_path: Path):
    catalog, store = program("growth").made_up(tmp_path, 60)
    verdicts = Rules().judge(store.index, catalog.table)
    assert len(verdicts) == len(catalog) and (verdicts.verdict == "ok").all()
