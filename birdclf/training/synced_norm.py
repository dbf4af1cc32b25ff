"""Batch norm over the batch of all processes that train together."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce as untyped_all_reduce


def sync_batch_norms(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network whose batch norms see the batch of all processes; parameters and their names stay.

    Args:
        network: It may be changed in place.
        device: Where it will train. GPUs have torch's own layer, which refuses a CPU.
    """
    if device.type == "cuda":
        synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return synced
    for name, child in network.named_children():
        setattr(network, name, sync_batch_norms(child, device))
    return SyncedBatchNorm.of(network) if isinstance(network, nn.BatchNorm1d | nn.BatchNorm2d) else network


class SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm of ``(B, C, ...)`` whose mean and variance are those of the batches of all processes together."""

    @classmethod
    def of(cls, norm: nn.modules.batchnorm._BatchNorm) -> "SyncedBatchNorm":
        """Return the layer with parameters and running statistics of an ordinary one."""
        synced = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        synced._parameters, synced._buffers = norm._parameters, norm._buffers
        synced.training = norm.training
        return synced

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm needs (B, C, ...), this has {input.ndim} dimensions")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        self._check_input_dim(input)
        axes = [0, *range(2, input.ndim)]
        shape = [1, -1] + [1] * (input.ndim - 2)
        values = input.new_tensor([input.numel() / input.shape[1]])
        total = _sum_of_all(torch.cat([input.sum(axes), values]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = input - mean.view(shape)
        # In two passes: the mean of squares minus the square of the mean would cancel.
        variance = _sum_of_all(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps)
        if not self.affine:
            return centred * scale.view(shape)
        out: Tensor = torch.addcmul(self.bias.view(shape), centred, (scale * self.weight).view(shape))
        return out

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


def _sum_of_all(values: Tensor) -> Tensor:
    total: Tensor = untyped_all_reduce(values)  # type: ignore[no-untyped-call]
    return total
