"""tau-normalisation, which makes the norms of the rows of a trained output layer more equal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from birdclf.errors import UserError
from birdclf.posthoc.base import Logits, OutputRows, PostHoc, Score, check_tau

GRID: Final = tuple(step / 20 for step in range(21))
"""Candidates for tau, 0 to 1."""


@dataclass(frozen=True)
class TauNormalised:
    """Logits of the rows ``w_k / |w_k|^tau`` without a bias (Kang et al., 2020, equation 5).

    Logits are linear in the rows, so they can be computed from those of the network, also from means over windows.
    """

    tau: float  # 0 keeps the rows, 1 gives all of them the same norm
    lengths: tuple[float, ...]  # `(K,)` norms of the trained rows
    bias: tuple[float, ...]  # `(K,)` trained bias

    def apply(self, logits: Logits) -> NDArray[np.float32]:
        """Return the logits ``(N, K)`` of the normalised rows; a row of zeros gives zeros."""
        lengths = np.asarray(self.lengths)
        factors = np.where(lengths > 0, lengths, 1.0) ** self.tau
        normalised: NDArray[np.float32] = ((logits - np.asarray(self.bias)) / factors).astype(np.float32)
        return normalised


class TauNorm(PostHoc):
    """Reduces the advantage of frequent classes by their rows of larger norm (Kang et al., 2020, section 4.3).

    Args:
        tau: 0 to 1; None tunes it on validation: the smallest of the best values among 0, 0.05, ..., 1.

    Raises:
        UserError: If ``tau`` is out of range.
    """

    needs_rows = True

    def __init__(self, tau: float | None = None) -> None:
        check_tau(tau, most=1)
        self.tau, self.corrects_prior = tau, tau != 0

    def fit(
        self, logits: Logits, class_counts: Sequence[int], score: Score, rows: OutputRows | None = None
    ) -> TauNormalised:
        """Return the normalisation.

        Raises:
            UserError: If the output layer is not linear.
        """
        if rows is None:
            raise UserError(
                "posthoc=tau_norm normalises the rows of a linear output layer, but this network has no such layer. "
                "Use posthoc=logit_adjustment, or model.head=linear."
            )
        taus = GRID if self.tau is None else (float(self.tau),)
        tried = [TauNormalised(tau, rows.lengths, rows.bias) for tau in taus]
        return tried[0] if len(tried) == 1 else max(tried, key=lambda one: score(one.apply(logits)))
