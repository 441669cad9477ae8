"""Two linear layers and what is between them as one operation: hidden units are never laid out as a tensor of PyTorch's."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as modules

from . import functional
from .linear import SparseLinear


def _activation(function: Any) -> str | None:
    """What the kernels call it, if they know it."""
    if function in (F.relu, torch.relu) or type(function) is nn.ReLU:
        return "relu"
    exact = type(function) is nn.GELU and function.approximate == "none"
    return "gelu" if exact or function is F.gelu else None


def _plain(layer: nn.Module) -> bool:
    """Whether nobody would notice that the module is not called."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer) is SparseLinear and not any(hooks)


def _for_all_modules() -> bool:
    return bool(
        modules._global_forward_hooks or modules._global_forward_pre_hooks or modules._global_backward_hooks
    )


def feed_forward(x: Tensor, first: nn.Module, activation: Any, dropout: float, second: nn.Module) -> Tensor | None:
    """second(dropout(activation(first(x)))), or None where that takes the modules themselves: with hooks, other activations, on other
    devices, and when compiling."""
    name = _activation(activation)
    if name is None or not (_plain(first) and _plain(second)) or _for_all_modules() or torch.compiler.is_compiling():
        return None
    assert isinstance(first, SparseLinear) and isinstance(second, SparseLinear)
    if dropout >= 1.0 or not functional.has_kernels(x, first.values, second.values):
        return None
    if x.shape[-1] != first.in_features:
        return None
    rows = x.reshape(-1, first.in_features)
    y = functional.feed_forward(rows, _parts(first), _parts(second), name, dropout)
    return y.view(*x.shape[:-1], second.out_features)


def _parts(layer: SparseLinear) -> functional.Layer:
    return layer.values, layer.bias, layer.sets.of(layer.indices, layer.active)


class _SparseFeedForward(nn.Module):
    """Of a Transformer layer whose two linear layers are sparse."""

    linear1: nn.Module
    linear2: nn.Module
    dropout: nn.Dropout
    activation: Any

    def _ff_block(self, x: Tensor) -> Tensor:
        dropped = self.dropout.p if self.dropout.training else 0.0
        y = feed_forward(x, self.linear1, self.activation, dropped, self.linear2)
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
