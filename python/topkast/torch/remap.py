"""Everything of length |B| follows its entries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .layer import SparseLayer
from .sets import numbers


def moved(state: Tensor, sources: Tensor) -> Tensor:
    """The numbers of the new entries: those of entries that were in B before, zero of those that were not."""
    known = state.index_select(0, sources.clamp_min(0))
    return known.masked_fill_(sources < 0, 0)


@torch.no_grad()
def follow(
    layer: SparseLayer, raw: bytearray | None, optimizers: Iterable[Optimizer], copies: Sequence[SparseLayer] = ()
) -> bool:
    """The layer takes its new sets, and its gradient, optimizer state and copies (averages) go along. `raw` is what the extension
    returned: None if nothing changed."""
    if raw is None:
        return False
    parameter, before = layer.values, layer.values.numel()
    sources = layer.adopt(numbers(raw, torch.int64))
    if parameter.grad is not None:
        moved_gradient = moved(parameter.grad, sources)
        parameter.grad = None
        parameter.grad = moved_gradient
    for optimizer in optimizers:
        if parameter in optimizer.state:
            optimizer.state[parameter] = _followed(optimizer.state[parameter], before, sources)
    for other in copies:
        of_other = sources.to(other.values.device)
        new = torch.where(of_other < 0, layer.values.to(other.values), moved(other.values, of_other))
        other.values.data, other.indices = new, layer.indices.to(other.indices.device, copy=True)
        other.active.copy_(layer.active)
    return True


def _followed(state: Any, before: int, sources: Tensor) -> Any:
    """Optimizer state with all vectors of length |B| in the new order, however deep they are in it."""
    if isinstance(state, Tensor):
        if state.shape != (before,):
            return state
        new = moved(state, sources.to(state.device))
        return state.copy_(new) if new.shape == state.shape else new
    if isinstance(state, dict):
        for key, value in state.items():
            state[key] = _followed(value, before, sources)
        return state
    if isinstance(state, (list, tuple)) and type(state) in (list, tuple):
        return type(state)(_followed(value, before, sources) for value in state)
    return state


def sparse_layers(model: nn.Module) -> dict[str, SparseLayer]:
    """By name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, SparseLayer)}
