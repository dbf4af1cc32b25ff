"""tau-normalisation: the rows of a trained output layer are made of more equal length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from birdclf.errors import UserError
from birdclf.posthoc.base import Logits, OutputRows, PostHoc, Score, check_tau

GRID: Final = tuple(step / 20 for step in range(21))
"""Taus that are tried, 0 to 1."""


@dataclass(frozen=True)
class TauNormalised:
    """Logits of the rows ``w_k / |w_k|^tau`` without a bias (Kang et al., 2020, equation 5).

    Logits are linear in the rows, so that these follow from the network's own, also where they are means over windows.
    """

    tau: float  # 0 leaves the rows as they are, 1 makes all equally long
    lengths: tuple[float, ...]  # `(K,)` lengths of the rows as they were trained
    bias: tuple[float, ...]  # `(K,)` bias as it was trained

    def apply(self, logits: Logits) -> NDArray[np.float32]:
        """Return the logits ``(N, K)`` of the normalised rows; a row of zeros keeps its zeros."""
        lengths = np.asarray(self.lengths)
        factors = np.where(lengths > 0, lengths, 1.0) ** self.tau
        normalised: NDArray[np.float32] = ((logits - np.asarray(self.bias)) / factors).astype(np.float32)
        return normalised


class TauNorm(PostHoc):
    """Takes from frequent classes what their longer rows give them (Kang et al., 2020, section 4.3).

    Args:
        tau: 0 to 1; None for the smallest in 0, 0.05 to 1 of those with the best score on validation.

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
            UserError: If the output layer's rows have no length that counts.
        """
        if rows is None:
            raise UserError(
                "posthoc=tau_norm makes the rows of a linear output layer more equal, but this network has no such "
                "layer. Use posthoc=logit_adjustment, or model.head=linear."
            )
        taus = GRID if self.tau is None else (float(self.tau),)
        tried = [TauNormalised(tau, rows.lengths, rows.bias) for tau in taus]
        return tried[0] if len(tried) == 1 else max(tried, key=lambda one: score(one.apply(logits)))
