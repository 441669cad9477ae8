"""Feed-forward parts, of Transformer layers and in `nn.Sequential`: linear, activation, dropout, linear as one operation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._topkast import Between
from .linear import SparseLinear
from .two_layers import dropped, hooked, two_layers


def _activation(function: Any) -> str | None:
    """What the kernels call it, if they know it and nobody would notice that it is not called."""
    if isinstance(function, nn.Module) and hooked(function):
        return None
    if function in (F.relu, torch.relu) or type(function) is nn.ReLU:
        return "relu"
    exact = type(function) is nn.GELU and function.approximate == "none"
    return "gelu" if exact or function is F.gelu else None


def feed_forward(x: Tensor, first: nn.Module, activation: Any, dropout: float, second: nn.Module) -> Tensor | None:
    """second(dropout(activation(first(x)))), or None where that takes the modules themselves."""
    name = _activation(activation)
    if name is None or dropout >= 1.0:
        return None
    between = lambda: Between.activation(name, dropped(dropout))
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


class SparseSequential(nn.Sequential):
    """`nn.Sequential` in which two sparse linear layers and what is between them are one operation, where they can be."""

    def forward(self, input: Tensor) -> Tensor:
        modules = list(self)
        at = 0
        while at < len(modules):
            count = _feed_forward_at(modules, at)
            y = None
            if count:
                first, activation, *drop, second = modules[at : at + count]
                rate = drop[0].p if drop and drop[0].training else 0.0
                y = feed_forward(input, first, activation, rate, second)
            if y is None:
                count, y = 1, modules[at](input)
            at, input = at + count, y
        return input


def _feed_forward_at(modules: list[nn.Module], at: int) -> int:
    """How many modules from there on are a feed-forward part: linear, activation, perhaps dropout, linear; or 0."""
    if not isinstance(modules[at], SparseLinear) or len(modules) < at + 3 or _activation(modules[at + 1]) is None:
        return 0
    drops = type(modules[at + 2]) is nn.Dropout and not hooked(modules[at + 2])
    last = at + 3 if drops else at + 2
    return last + 1 - at if last < len(modules) and isinstance(modules[last], SparseLinear) else 0


_SPARSE = {
    nn.TransformerEncoderLayer: SparseTransformerEncoderLayer,
    nn.TransformerDecoderLayer: SparseTransformerDecoderLayer,
    nn.Sequential: SparseSequential,
}
_DENSE = {sparse: dense for dense, sparse in _SPARSE.items()}


def joined(module: nn.Module) -> None:
    """Has a Transformer layer or `nn.Sequential` compute sparse linear layers as one, if it has such; parameters and names stay."""
    sparse = _SPARSE.get(type(module))
    if sparse is SparseSequential:
        modules = list(module.children())
        pair = any(_feed_forward_at(modules, at) for at in range(len(modules)))
    else:
        pair = sparse is not None and all(isinstance(one, SparseLinear) for one in (module.linear1, module.linear2))
    if pair:
        module.__class__ = sparse


def parted(module: nn.Module) -> None:
    """Makes it PyTorch's own again."""
    module.__class__ = _DENSE.get(type(module), type(module))
