"""`nn.Conv2d` with a sparse weight."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from . import functional
from .layer import SparseLayer, fresh_sets
from .sets import Sets

Pair = int | tuple[int, ...]


def pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


class SparseConv2d(SparseLayer):
    """y = α ∗ x + bias, with zeros as padding and one group.

    The weight is [outputs, inputs × taps]. Fresh weights are uniform as `nn.Conv2d`'s are. A backward sparsity of None is the
    forward sparsity: B = A.
    """

    window: functional.Window

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        bias: bool = True,
        *,
        forward_sparsity: float,
        backward_sparsity: float | None = None,
        seed: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        window = (pair(kernel_size), pair(stride), pair(padding), pair(dilation))
        fan = in_channels * math.prod(window[0])
        bound = 1 / math.sqrt(max(1, fan))
        sets = fresh_sets(
            (out_channels, fan), forward_sparsity, backward_sparsity, bound / math.sqrt(3), seed=seed
        )
        start = torch.empty(out_channels).uniform_(-bound, bound) if bias else None
        super().__init__(sets, start, device, dtype)
        self.window = window

    @classmethod
    def of(
        cls, sets: Sets, window: functional.Window, bias: Tensor | None, device: Any = None, dtype: Any = None
    ) -> SparseConv2d:
        """With sets just made, [outputs, inputs × taps]."""
        layer = cls.__new__(cls)
        SparseLayer.__init__(layer, sets, bias, device, dtype)
        layer.window = window
        return layer

    @property
    def in_channels(self) -> int:
        return self.sets.width // math.prod(self.window[0])

    @property
    def out_channels(self) -> int:
        return self.sets.rows

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() not in (3, 4) or x.shape[-3] != self.in_channels:
            raise ValueError(f"x must be [images, {self.in_channels}, height, width], not {tuple(x.shape)}")
        images = x if x.dim() == 4 else x[None]
        if x.dtype in (torch.bfloat16, torch.float16):
            images = images.to(self.values.dtype)
        y = functional.convolution(
            images, self.values, self.bias, self.indices, self.active, self.sets, self.window
        )
        return (y if x.dim() == 4 else y[0]).to(x.dtype)

    def densify(self) -> nn.Conv2d:
        """The dense layer that computes the same."""
        size, stride, padding, dilation = self.window
        with torch.device("meta"):
            dense = nn.Conv2d(
                self.in_channels, self.out_channels, size, stride, padding, dilation, bias=self.bias is not None
            )
        dense.weight = nn.Parameter(self.to_dense().view(self.out_channels, self.in_channels, *size))
        if self.bias is not None:
            dense.bias = nn.Parameter(self.bias.detach().clone())
        return dense.train(self.training)

    def extra_repr(self) -> str:
        size, stride, padding, dilation = self.window
        return f"{super().extra_repr()}, {size=}, {stride=}, {padding=}, {dilation=}"
