"""Settings are held to the types that constructors declare."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

import pytest
from omegaconf import OmegaConf

from birdclf.declared import check_types, declared, fits
from birdclf.errors import UserError


class More(TypedDict, total=False):
    species: Sequence[str] | str | None


class Part:
    """Something that a configuration builds."""

    def __init__(
        self, hop: int = 1, rate: float = 0.5, on: bool = True, root: str = "x", limit: int | None = None,
        sizes: tuple[float, float] = (1, 2), rates: Mapping[str, float] | None = None, inner: Any = None,
        way: Literal["up", "down"] = "up", **more: Unpack[More],
    ) -> None:  # fmt: skip
        self.given = hop, rate


def part(**given: Any) -> Any:
    return OmegaConf.create({"part": {"_target_": f"{__name__}.Part", **given}})


REFUSED = [
    ("hop", True), ("hop", 1.5), ("hop", None), ("hop", "abc"), ("hop", []), ("hop", float("inf")),
    ("hop", float("nan")),
    ("rate", True), ("rate", "abc"), ("rate", None), ("rate", float("nan")), ("rate", {}),
    ("on", 1), ("on", "abc"), ("on", None),
    ("root", True), ("root", None), ("root", []), ("root", {}),
    ("limit", "abc"), ("limit", 1.5),
    ("sizes", [1]), ("sizes", ["a", 2]), ("sizes", 3),
    ("rates", 3), ("rates", "abc"),
    ("way", "left"), ("way", 0),
    ("species", True), ("species", [None]), ("species", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=str)
def test_a_value_of_another_type_is_refused_by_its_key(name: str, value: Any):
    with pytest.raises(UserError, match=rf"^part\.{name} is .*; it must be ."):
        check_types(part(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value", "held"),
    [
        ("hop", 3, 3), ("hop", 1e3, 1000), ("rate", 3, 3), ("rate", float("inf"), float("inf")), ("root", 2024, "2024"),
        ("root", 0.5, "0.5"), ("limit", None, None), ("sizes", [1, 2.5], [1, 2.5]), ("rates", {"a": 1}, {"a": 1}),
        ("species", ["a", 2], ["a", "2"]), ("species", None, None), ("species", "file.txt", "file.txt"),
        ("way", "down", "down"), ("inner", [True, None], [True, None]), ("unknown", True, True),
    ],
)  # fmt: skip
def test_a_value_that_means_one_is_taken(name: str, value: Any, held: Any):
    cfg = part(**{name: value})
    check_types(cfg)
    found = OmegaConf.to_container(cfg.part)[name]
    assert found == held and type(found) is type(held)


def test_parts_of_parts_are_held_too_and_are_no_values_themselves():
    inner = {"_target_": f"{__name__}.Part", "hop": "abc"}
    with pytest.raises(UserError, match=r"part\.limit\.hop is 'abc'"):
        check_types(part(limit=inner))
    with pytest.raises(UserError, match=r"part\.inner\[1\]\.hop is 'abc'"):
        check_types(part(inner=[1, inner]))
    check_types(part(limit={**inner, "hop": 1}))


def test_what_is_missing_or_cannot_be_imported_is_left_to_others():
    check_types(part(hop="???"))
    check_types(OmegaConf.create({"part": {"_target_": "no_package.Part", "hop": "abc"}}))


def test_types_of_more_arguments_are_known():
    assert declared(Part)["species"] == Sequence[str] | str | None
    assert fits(["a"], declared(Part)["species"]) and not fits([1], declared(Part)["species"])
