import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from birdclf.errors import UserError
from birdclf.models.head import CosineLinear
from birdclf.models.tau_norm import TAUS, tau_logits, tau_normalise


def layer(bias: bool = True, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    made = nn.Linear(6, 4, bias=bias).double()
    with torch.no_grad():
        made.weight *= torch.tensor([8.0, 2.0, 1.0, 0.1])[:, None]
    return made


@given(st.floats(0, 1), st.booleans(), st.integers(0, 20))
def test_logits_follow_from_those_of_the_layer_as_it_was(tau, bias, seed):
    last = layer(bias, seed)
    features = torch.randn(5, 6, dtype=torch.float64)
    from_logits = tau_logits(last(features), last, tau)
    by_hand = features @ (last.weight / last.weight.norm(dim=1, keepdim=True) ** tau).T
    torch.testing.assert_close(from_logits, by_hand)
    tau_normalise(last, tau)
    torch.testing.assert_close(last(features), by_hand)


def test_the_limits():
    last, features = layer(), torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(tau_logits(last(features), last, 0), last(features) - last.bias)
    tau_normalise(last, 1)
    torch.testing.assert_close(last.weight.norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert not last.bias.any()


def test_rare_classes_gain_as_tau_rises():
    last, features = layer(), torch.randn(200, 6, dtype=torch.float64)
    share = [float((tau_logits(last(features), last, tau).argmax(1) >= 2).double().mean()) for tau in (0, 0.5, 1)]
    assert share[0] < share[1] < share[2]


def test_a_row_of_zeros_stays_finite():
    last = layer()
    with torch.no_grad():
        last.weight[1] = 0
    assert tau_logits(last(torch.randn(3, 6, dtype=torch.float64)), last, 1).isfinite().all()
    tau_normalise(last, 1)
    assert not last.weight[1].any()


def test_what_is_tried_spans_the_range():
    assert TAUS[0] == 0 and TAUS[-1] == 1 and len(set(TAUS)) == 21


@pytest.mark.parametrize("tau", [-0.1, 1.1, float("nan"), True])
def test_a_tau_out_of_range(tau):
    with pytest.raises(UserError, match=r"posthoc\.tau"):
        tau_normalise(layer(), tau)


@pytest.mark.parametrize(("other", "said"), [(CosineLinear(6, 4), "one length"), (nn.Conv2d(1, 1, 1), "a Conv2d")])
def test_a_layer_whose_rows_have_no_length_that_counts(other, said):
    with pytest.raises(UserError, match=said):
        tau_logits(torch.zeros(1, 4), other, 0.5)
