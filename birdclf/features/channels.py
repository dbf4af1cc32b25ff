"""What becomes of stored bands on the batch: themselves, their slope and their curvature over time, as channels."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from birdclf.errors import UserError

ORDERS: Final = {"static": 0, "delta": 1, "delta2": 2}
ALL: Final = tuple(ORDERS)
DELTA_WIDTH: Final = 9
"""Frames, where deltas are chosen and no width is."""


def checked(channels: Sequence[str]) -> tuple[str, ...]:
    """Return a choice of channels.

    Raises:
        UserError: If it is empty, repeats one, or holds one that there is not.
    """
    listed = isinstance(channels, Sequence) and not isinstance(channels, str)
    chosen = tuple(map(str, channels)) if listed else ()
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= ORDERS.keys():
        raise UserError(
            f"features.channels is {list(chosen) if listed else channels!r}; it must be a list of one or more of "
            f"{', '.join(ORDERS)}, each once, such as features.channels=[static,delta]."
        )
    return chosen


def checked_width(delta_width: int | None, channels: tuple[str, ...]) -> int | None:
    """Return the width of the deltas' fit, None where there are no deltas.

    Raises:
        UserError: If it is out of range, or given where no channel is a delta.
    """
    if channels == ("static",):
        if delta_width is not None:
            raise UserError(
                f"features.delta_width is {delta_width!r}, but features.channels=[static] has no delta, so it would "
                f"change nothing. Leave it out (null), or add delta or delta2 to features.channels."
            )
        return None
    width = DELTA_WIDTH if delta_width is None else delta_width
    if width < 5 or width % 2 == 0:
        raise UserError(f"features.delta_width is {width!r}; it must be odd and at least 5.")
    return width


def delta_kernels(channels: tuple[str, ...], width: int | None) -> Tensor:
    """Return the filters ``(D, 1, width)`` of the deltas among the channels (Savitzky and Golay, 1964), in order."""
    from scipy.signal import savgol_coeffs  # 60 MB and half a second that worker processes can do without

    orders = [ORDERS[name] for name in channels if ORDERS[name]]
    if width is None:
        return torch.empty(0, 1, 1)
    kernels = [savgol_coeffs(width, polyorder=order, deriv=order, use="dot") for order in orders]
    return torch.from_numpy(np.stack(kernels)).float().unsqueeze(1)


def stacked(bands: Tensor, channels: tuple[str, ...], kernels: Tensor) -> Tensor:
    """Return the channels ``(B, C, F, T)`` float32 of bands ``(B, F, T)``, whose first and last frames go on outside.

    Args:
        bands: ``(B, F, T)``, of any float type.
        channels: ``static``, ``delta`` and ``delta2`` in any order.
        kernels: :func:`delta_kernels` of the channels.
    """
    with torch.autocast(bands.device.type, enabled=False):
        bands = bands.float()
        static = bands.unsqueeze(1)
        if not len(kernels):
            return static
        half = kernels.shape[-1] // 2
        padded = functional.pad(bands, (half, half), mode="replicate")
        rows = padded.flatten(0, 1).unsqueeze(1)  # (B F, 1, T + 2 half)
        deltas = functional.conv1d(rows, kernels)  # (B F, D, T)
        deltas = deltas.reshape(*bands.shape[:2], len(kernels), -1).transpose(1, 2)  # (B, D, F, T)
        if "static" not in channels:
            return deltas
        place = channels.index("static")
        return torch.cat([deltas[:, :place], static, deltas[:, place:]], dim=1)
