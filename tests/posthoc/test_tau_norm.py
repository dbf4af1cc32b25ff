import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from birdclf.errors import UserError
from birdclf.models.head import CosineLinear
from birdclf.posthoc.base import OutputRows
from birdclf.posthoc.tau_norm import TauNorm, TauNormalised
from birdclf.runs.results import rows_of

K = 4


def layer(bias: bool = True, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    made = nn.Linear(6, K, bias=bias).double()
    with torch.no_grad():
        made.weight *= torch.tensor([8.0, 2.0, 1.0, 0.1])[:, None]
    return made


def normalised(last: nn.Linear, tau: float) -> TauNormalised:
    rows = rows_of(last, K)
    return TauNorm(tau).fit(np.zeros((1, K)), [1] * K, lambda z: 0.0, rows)


@given(st.floats(0, 1), st.booleans(), st.integers(0, 20))
def test_logits_follow_from_those_of_the_network(tau, bias, seed):
    last, features = layer(bias, seed), torch.randn(5, 6, dtype=torch.float64)
    with torch.no_grad():
        ours = normalised(last, tau).apply(last(features).numpy())
        by_hand = features @ (last.weight / last.weight.norm(dim=1, keepdim=True) ** tau).T
    np.testing.assert_allclose(ours, by_hand.numpy(), rtol=1e-5, atol=1e-6)


def test_a_mean_over_windows_is_normalised_like_its_windows():
    last, features = layer(), torch.randn(7, 6, dtype=torch.float64)
    logits = last(features).detach().numpy()
    one = normalised(last, 0.7)
    np.testing.assert_allclose(one.apply(logits.mean(0)), one.apply(logits).mean(0), rtol=1e-5)


def test_rare_classes_gain_as_tau_rises():
    last, features = layer(), torch.randn(200, 6, dtype=torch.float64)
    logits = last(features).detach().numpy()
    share = [float((normalised(last, tau).apply(logits).argmax(1) >= 2).mean()) for tau in (0, 0.5, 1)]
    assert share[0] < share[1] < share[2]


def test_a_row_of_zeros_stays_finite():
    last = layer()
    with torch.no_grad():
        last.weight[1] = 0
    logits = last(torch.randn(3, 6, dtype=torch.float64)).detach().numpy()
    adjusted = normalised(last, 1).apply(logits)
    assert np.isfinite(adjusted).all() and np.allclose(adjusted[:, 1], 0)


def test_tau_is_the_smallest_of_the_best():
    rows = OutputRows((4.0, 1.0), (0.0, 0.0))
    logits = np.array([[2.0, 1.0]])  # of equal size at tau 0.5
    best = TauNorm().fit(logits, [9, 1], lambda z: float(z.argmax() == 1), rows)
    assert best.tau == pytest.approx(0.55)


@pytest.mark.parametrize("tau", [-0.1, 1.1, float("nan"), True, "all"])
def test_a_tau_out_of_range(tau):
    with pytest.raises(UserError, match=r"posthoc\.tau"):
        TauNorm(tau)


def test_a_layer_whose_rows_are_of_one_length_is_refused():
    assert rows_of(CosineLinear(6, K), K) is None
    with pytest.raises(UserError, match="no such layer"):
        TauNorm(0.5).fit(np.zeros((1, K)), [1] * K, lambda z: 0.0, None)
