"""A choice of channels is a part of what all three are, and decides nothing that is stored."""

from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from birdclf.errors import UserError
from birdclf.features.mel import ALL, check_channels
from birdclf.features.mfcc import MFCCStack

CHOICES = [list(choice) for size in (1, 2, 3) for choice in permutations(ALL, size)]


def bands() -> torch.Tensor:
    return 30 * torch.randn(2, 20, 500, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("chosen", CHOICES, ids="-".join)
def test_a_choice_is_a_part_of_all_three(chosen):
    stack, whole = MFCCStack(channels=chosen), MFCCStack()
    assert stack.shape == (len(chosen), 20, 500) and stack.mean.shape == stack.std.shape == (len(chosen), 20, 1)
    assert stack.fingerprint() == whole.fingerprint()
    wanted = whole.stack(bands())[:, [ALL.index(name) for name in chosen]]
    torch.testing.assert_close(stack.stack(bands()), wanted, rtol=1e-5, atol=1e-4)
    for one in (stack, whole):
        one.fit([bands()])
    out = stack(bands())
    assert out.shape == (2, *stack.shape) and out.dtype == torch.float32
    torch.testing.assert_close(out.mean(dim=(0, 3)), torch.zeros(len(chosen), 20), atol=1e-3, rtol=0)
    assert MFCCStack(**stack.settings).channels == tuple(chosen)


@given(st.lists(st.sampled_from([*ALL, "delta3", "Static", ""]), max_size=5))
def test_only_a_list_without_repeats_of_what_there_is_is_taken(chosen):
    if chosen and len(set(chosen)) == len(chosen) and set(chosen) <= set(ALL):
        assert check_channels(chosen) == tuple(chosen)
    else:
        with pytest.raises(UserError, match=r"features\.channels is .*static, delta, delta2"):
            check_channels(chosen)


@pytest.mark.parametrize("chosen", ["static", None, 3, {"static": 1}])
def test_what_is_no_list_is_refused(chosen):
    with pytest.raises(UserError, match=r"features\.channels is"):
        MFCCStack(channels=chosen)


def test_a_list_of_a_configuration_becomes_plain_values():
    settings = MFCCStack(channels=OmegaConf.create(["delta", "static"])).settings
    assert settings["channels"] == ["delta", "static"] and type(settings["channels"]) is list


def test_a_width_that_no_delta_uses_is_refused():
    with pytest.raises(UserError, match=r"features\.delta_width is 9.*has no delta"):
        MFCCStack(channels=["static"], delta_width=9)
    assert "delta_width" not in MFCCStack(channels=["static"]).settings
    assert MFCCStack(channels=["delta2"]).settings["delta_width"] == 9
