"""`nn.Linear` with a sparse weight."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from . import functional
from .layer import SparseLayer, fresh_sets
from .sets import Sets


class SparseLinear(SparseLayer):
    """y = x·αᵀ + bias, with any leading shape of x.

    Fresh weights are uniform as `nn.Linear`'s are. A backward sparsity of None is the forward sparsity: B = A.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        forward_sparsity: float,
        backward_sparsity: float | None = None,
        seed: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        bound = 1 / math.sqrt(max(1, in_features))
        shape = (out_features, in_features)
        sets = fresh_sets(shape, forward_sparsity, backward_sparsity, bound / math.sqrt(3), seed=seed)
        start = torch.empty(out_features).uniform_(-bound, bound) if bias else None
        super().__init__(sets, start, device, dtype)

    @classmethod
    def of(cls, sets: Sets, bias: Tensor | None, device: Any = None, dtype: Any = None) -> SparseLinear:
        """With sets just made, [outputs, inputs]."""
        layer = cls.__new__(cls)
        SparseLayer.__init__(layer, sets, bias, device, dtype)
        return layer

    @property
    def in_features(self) -> int:
        return self.sets.width

    @property
    def out_features(self) -> int:
        return self.sets.rows

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.in_features:
            raise ValueError(f"the last dimension of x must be {self.in_features}, not that of {tuple(x.shape)}")
        rows = x.reshape(-1, self.in_features)
        if x.dtype in (torch.bfloat16, torch.float16):
            rows = rows.to(self.values.dtype)
        y = functional.linear(rows, self.values, self.bias, self.indices, self.active, self.sets)
        return y.view(*x.shape[:-1], self.out_features).to(x.dtype)

    def densify(self) -> nn.Linear:
        """The dense layer that computes the same."""
        with torch.device("meta"):
            dense = nn.Linear(self.in_features, self.out_features, self.bias is not None)
        dense.weight = nn.Parameter(self.to_dense())
        if self.bias is not None:
            dense.bias = nn.Parameter(self.bias.detach().clone())
        return dense.train(self.training)
