"""README and the pages of docs/ name what exists: commands, settings, links, folders."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from birdclf.cli import COMPOSED, PLAIN, _parser
from birdclf.config import conf_dir

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
README = PAGES[0].read_text()
OPTIONS = ("-m", "--help")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield page and arguments of every ``birdclf`` command that stands on a line of its own or between backquotes."""
    for page in PAGES:
        for line in page.read_text().splitlines():
            own = re.match(r"(?: {4}|\s*\$ )(?:.* \| )?(birdclf .*)", line)
            for text in [own[1]] if own else re.findall(r"`(?:\w+=\w+ )?(birdclf [^`]+)`", line):
                words = shlex.split(text, comments=True)[1:]
                if len(words) > 1 and not any("…" in word for word in words):
                    yield page.name, words


def one_job(words: list[str]) -> list[str]:
    """Return the overrides of the first job of a sweep, without what a sampler would have to choose."""
    chosen: list[str] = []
    for override in OverridesParser.create().parse_overrides(words):
        if not override.is_sweep_override():
            chosen.append(str(override.input_line))
        elif override.is_choice_sweep() or override.is_range_sweep():
            chosen.append(f"{override.get_key_element()}={next(override.sweep_string_iterator())}")
    return chosen


def accepted(words: list[str]) -> bool:
    """Return whether a command takes its arguments."""
    try:
        _parser().parse_args(words)
    except SystemExit:
        return False
    return True


def refusal(words: list[str]) -> str | None:
    """Return why Hydra refuses a command, if it does."""
    try:
        compose(
            words[0], overrides=one_job([word for word in words[1:] if word not in OPTIONS]), return_hydra_config=True
        )
    except HydraException as error:
        return str(error)
    return None


def test_every_command_with_arguments_is_accepted() -> None:
    found = [(page, words) for page, words in commands() if words[0] not in COMPOSED]
    assert {words[0] for _, words in found} == set(PLAIN)
    assert [(page, " ".join(words)) for page, words in found if not accepted(words)] == []


@pytest.mark.slow  # 80 compositions
def test_every_command_with_settings_composes() -> None:
    found = [(page, words) for page, words in commands() if words[0] in COMPOSED and "--config-dir" not in words]
    assert len(found) > 60
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        problems = [(page, " ".join(words), why) for page, words in found if (why := refusal(words))]
    assert problems == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for link in LINK.findall(page.read_text()):
            if link.startswith("https://"):
                continue
            name, _, anchor = link.partition("#")
            file = page.parent / name if name else page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                broken.append(f"{page.name}: {link}")
    assert broken == []


def test_every_page_and_picture_is_linked() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in LINK.findall(page.read_text())
    }
    assert [file.name for file in (ROOT / "docs").iterdir() if file.resolve() not in linked] == []


@pytest.mark.parametrize("name", ["README.md", "docs/design.md"])
def test_a_page_stays_short(name: str) -> None:
    assert (ROOT / name).stat().st_size <= 8192


def test_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {
        name for page in PAGES for name in re.findall(r"(?:^    |`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert named <= {*targets, "help"} and "train" in named


def test_the_design_lists_every_folder_of_the_package() -> None:
    rooms = "".join(line for line in (ROOT / "docs" / "design.md").read_text().splitlines() if line.startswith("| `"))
    folders = {path.parent.name for path in (ROOT / "birdclf").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"`(\w+)/", rooms))


@pytest.mark.parametrize("group", ["loss", "sampler", "posthoc", "augment", "features", "model", "averaging"])
def test_the_readme_lists_every_option(group: str) -> None:
    options = {file.stem for file in (ROOT / "conf" / group).glob("*.yaml")} - {"none"}
    assert {name for name in options if not re.search(rf"\b{name}\b", README)} == set()
