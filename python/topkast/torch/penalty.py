"""The exploration penalty (paper, section 2.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Penalty(torch.autograd.Function):
    """Σ ω(θ) over A + Σ ω(θ)/D over B\\A, for ω(θ) = θ²/2 or |θ|: one pass over the values either way."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, active: int, density: float, l1: bool) -> Tensor:
        ctx.save_for_backward(values)
        ctx.active, ctx.density, ctx.l1 = active, density, l1
        near, far = values[:active], values[active:]
        if l1:
            return near.abs().sum() + far.abs().sum() / density
        return (near.dot(near) + far.dot(far) / density) / 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (values,) = ctx.saved_tensors
        slope = (values.sign() if ctx.l1 else values) * gradient
        slope[ctx.active :] /= ctx.density
        return slope, None, None, None
