"""Feed-forward parts of Transformer layers: linear, activation, dropout, linear as one operation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._topkast import Between
from .linear import SparseLinear
from .two_layers import dropped, two_layers


def _activation(function: Any) -> str | None:
    """What the kernels call it, if they know it."""
    if function in (F.relu, torch.relu) or type(function) is nn.ReLU:
        return "relu"
    exact = type(function) is nn.GELU and function.approximate == "none"
    return "gelu" if exact or function is F.gelu else None


def feed_forward(x: Tensor, first: nn.Module, activation: Any, dropout: float, second: nn.Module) -> Tensor | None:
    """second(dropout(activation(first(x)))), or None where that takes the modules themselves."""
    name = _activation(activation)
    if name is None or dropout >= 1.0:
        return None
    between = Between.activation(name, dropped(dropout))
    y = two_layers(x.reshape(-1, x.shape[-1]), first, second, between)
    return None if y is None else y.view(*x.shape[:-1], y.shape[-1])


class _SparseFeedForward(nn.Module):
    """Of a Transformer layer whose two linear layers are sparse."""

    linear1: nn.Module
    linear2: nn.Module
    dropout: nn.Dropout
    activation: Any

    def _ff_block(self, x: Tensor) -> Tensor:
        rate = self.dropout.p if self.dropout.training else 0.0
        y = feed_forward(x, self.linear1, self.activation, rate, self.linear2)
        if y is None:
            return super()._ff_block(x)  # type: ignore[misc]
        # The last dropout of either kind of layer.
        return getattr(self, "dropout3", self.dropout2)(y)


class SparseTransformerEncoderLayer(_SparseFeedForward, nn.TransformerEncoderLayer):
    """`nn.TransformerEncoderLayer` whose feed-forward part is one operation, where it can be."""


class SparseTransformerDecoderLayer(_SparseFeedForward, nn.TransformerDecoderLayer):
    """`nn.TransformerDecoderLayer` whose feed-forward part is one operation, where it can be."""


_SPARSE = {
    nn.TransformerEncoderLayer: SparseTransformerEncoderLayer,
    nn.TransformerDecoderLayer: SparseTransformerDecoderLayer,
}
_DENSE = {sparse: dense for dense, sparse in _SPARSE.items()}


def joined(layer: nn.Module) -> None:
    """Makes a Transformer layer with sparse linear layers compute them as one; parameters and names stay."""
    sparse = _SPARSE.get(type(layer))
    if sparse is not None and isinstance(layer.linear1, SparseLinear) and isinstance(layer.linear2, SparseLinear):
        layer.__class__ = sparse


def parted(layer: nn.Module) -> None:
    """Makes it PyTorch's own again."""
    layer.__class__ = _DENSE.get(type(layer), type(layer))
