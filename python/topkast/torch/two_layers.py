"""Two linear layers and what is between them as one operation: what is between is never laid out as a tensor of PyTorch's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules

from .._topkast import Between
from . import functional
from .linear import SparseLinear


def two_layers(
    x: Tensor, first: nn.Module, second: nn.Module, between: Callable[[], Between]
) -> Tensor | None:
    """second(between(first(x))) for x [positions, inputs]; or None where that takes the modules themselves: with hooks or layers of other
    classes, on other devices, in other types, and when compiling. What is between is made only where it is used: it may draw random
    numbers, and compilers cannot see through it."""
    if torch.compiler.is_compiling() or hooked(first) or hooked(second) or _global_hooks():
        return None
    if type(first) is not SparseLinear or type(second) is not SparseLinear:
        return None
    if not functional.has_kernels(x, first.values, second.values) or x.shape[-1] != first.in_features:
        return None
    return functional.two_layers(x, _parts(first), _parts(second), between())


def dropped(rate: float) -> tuple[int, float] | None:
    """What drops out: a seed of PyTorch's generator, so that `torch.manual_seed` decides, and the rate."""
    return (int(torch.randint(2**62, ()).item()), rate) if rate > 0 else None


def hooked(module: nn.Module) -> bool:
    """Whether somebody would notice that the module is not called."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)


def _global_hooks() -> bool:
    forward = modules._global_forward_hooks or modules._global_forward_pre_hooks
    return bool(forward or modules._global_backward_hooks or modules._global_backward_pre_hooks)


def _parts(layer: SparseLinear) -> functional.Layer:
    return layer.values, layer.bias, layer.sets.of(layer.indices, layer.active)
