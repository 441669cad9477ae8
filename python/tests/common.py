"""What the tests share: a dense twin that does with masks what the package does with sets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from topkast.torch import SparseConv2d, SparseLayer, SparseLinear


class Alpha(torch.autograd.Function):
    """θ where A is, in both directions of time: the gradient goes to all of B."""

    @staticmethod
    def forward(ctx, theta: Tensor, active: Tensor, backward: Tensor) -> Tensor:
        ctx.save_for_backward(backward)
        return theta * active

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (backward,) = ctx.saved_tensors
        return gradient * backward, None, None


class Masked(nn.Module):
    """A dense layer under masks, as Top-KAST has it (paper, section 2), for a sparse layer whose C is `theta`."""

    def __init__(self, layer: SparseLayer, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta.clone())
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        self.window = layer.window if isinstance(layer, SparseConv2d) else None
        self.counts = int(layer.active), layer.values.numel()
        self.choose()

    def choose(self) -> Tensor:
        """A and B from θ; returns what is newly in B."""
        before = getattr(self, "backward_set", None)
        order = self.theta.detach().flatten().abs().sort(descending=True, stable=True).indices
        active, backward = self.counts
        shape = self.theta.shape
        self.active_set = torch.zeros(self.theta.numel()).index_fill_(0, order[:active], 1.0).view(shape)
        self.backward_set = torch.zeros(self.theta.numel()).index_fill_(0, order[:backward], 1.0).view(shape)
        return self.backward_set if before is None else self.backward_set * (1 - before)

    def forward(self, x: Tensor) -> Tensor:
        alpha = Alpha.apply(self.theta, self.active_set, self.backward_set)
        if self.window is None:
            return nn.functional.linear(x, alpha, self.bias)
        size, stride, padding, dilation = self.window
        weight = alpha.view(alpha.shape[0], -1, *size)
        return nn.functional.conv2d(x, weight, self.bias, stride, padding, dilation)


def theta_of(layer: SparseLayer) -> Tensor:
    """All of θ: B's values, and C as the extension tells it."""
    theta = layer.to_dense(backward=True).flatten()
    inside = set(layer.indices.tolist())
    weight = layer.extension()
    for index in range(layer.total):
        if index not in inside:
            theta[index] = weight.reserved(index)
    return theta.view(layer.shape)


def linear(rows: int, width: int, forward: float = 0.6, backward: float | None = 0.3, **named) -> SparseLinear:
    return SparseLinear(width, rows, forward_sparsity=forward, backward_sparsity=backward, **named)


def close(got: Tensor, want: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance * max(1.0, float(want.detach().abs().max()) if want.numel() else 1.0))
