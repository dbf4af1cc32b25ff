"""Features that an untrusted checkpoint or configuration describes, the parts of a fusion among them."""

from typing import Any

import pytest

from birdclf.errors import UserError
from birdclf.features.embedders.fusion import Fusion
from birdclf.features.mfcc import MFCCStack
from birdclf.runs.checkpoint import build_features

FUSION = "birdclf.features.embedders.fusion.Fusion"
MFCC = "birdclf.features.mfcc.MFCCStack"


def fused(part: Any, target: str = FUSION) -> dict[str, Any]:
    return {"_target_": target, "parts": {"first": {"_target_": MFCC, "n_mfcc": 13}, "second": part}}


def test_parts_are_built_with_their_settings():
    features = build_features(fused({"_target_": MFCC, "window_s": 2.0}))
    assert isinstance(features, Fusion) and features.window_samples == 160_000
    assert features.shape == (2 * 3 * 13 + 2 * 3 * 20,)
    assert build_features(fused(None)).shape == (2 * 3 * 13,)
    assert isinstance(build_features({"_target_": MFCC}), MFCCStack)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            {"_target_": "os.system", "command": "true"},
            r"features.parts.second._target_ of the file is os.system, code",
        ),
        ({"_target_": "birdclf.cli.os.system", "command": "true"}, "cannot be imported"),
        ({"_target_": "birdclf.features.mel.require"}, "no Representation; nothing is run"),
        ({"_target_": "birdclf.models.audio_cnn.AudioCNN", "num_classes": 2}, "no Representation; nothing is run"),
        ({"_target_": "birdclf.data.catalog.Catalog"}, "no Representation; nothing is run"),
        ({"_target_": MFCC, "n_mfcc": {"_target_": "os.system"}}, "builds something inside its arguments"),
        ({"_target_": MFCC, "_args_": [1]}, "builds something inside its arguments"),
        (fused({"_target_": MFCC}), "builds something inside its arguments"),
        ({"n_mfcc": 13}, r"features.parts.second._target_ is missing"),
        ("birdclf.features.mfcc.MFCCStack", r"features.parts.second._target_ is missing"),
        ({"_target_": MFCC, "n_mfcc": -1}, "refuses its settings: features.n_mfcc is -1"),
    ],
)
def test_a_part_is_held_to_the_rules_of_the_whole(part: Any, said: str):
    with pytest.raises(UserError, match=said):
        build_features(fused(part), of="the file")


def test_nothing_is_built_for_what_may_not_be_called(monkeypatch):
    monkeypatch.setattr(MFCCStack, "__init__", lambda *args, **more: pytest.fail("built"))
    for target in ("os.system", "birdclf.models.audio_cnn.AudioCNN"):
        with pytest.raises(UserError, match="nothing is run|not run"):
            build_features(fused({"_target_": MFCC}, target))
    with pytest.raises(UserError, match="builds something inside its arguments"):
        build_features({**fused({"_target_": MFCC}), "padding": {"_target_": MFCC}})
    with pytest.raises(UserError, match="builds something inside its arguments"):
        build_features({"_target_": FUSION, "parts": [{"_target_": MFCC}]})
