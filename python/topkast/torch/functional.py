"""The products of a sparse weight with autograd: the extension's kernels on the CPU, PyTorch's operations elsewhere."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from .. import _topkast as kernels
from . import reference
from .sets import Sets, capsule

Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]

# For tests: PyTorch's operations on the CPU, too.
use_reference = False


# A layer's values, bias and sets.
Layer = tuple[Tensor, Optional[Tensor], kernels.Weight]


def has_kernels(*tensors: Tensor) -> bool:
    """Whether the extension computes with these, not PyTorch."""
    known = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
    return known and not use_reference


def _optional(tensor: Tensor | None) -> Any:
    return None if tensor is None else capsule(tensor)


def linear(x: Tensor, values: Tensor, bias: Tensor | None, indices: Tensor, active: Tensor, sets: Sets) -> Tensor:
    """x·αᵀ + bias: x is [positions, inputs], float32 for the kernels."""
    if not has_kernels(x, values):
        return reference.linear(x, values, bias, indices, active, (sets.rows, sets.width))
    if torch.compiler.is_compiling():
        from . import operators

        return operators.linear(x, values, bias, indices, active, sets.number, sets.rows)
    return _Linear.apply(x.contiguous(), values, bias, sets.of(indices, active))


def convolution(
    x: Tensor, values: Tensor, bias: Tensor | None, indices: Tensor, active: Tensor, sets: Sets, window: Window
) -> Tensor:
    """α ∗ x + bias: x is [images, channels, height, width]; window is (size, stride, padding, dilation)."""
    if not has_kernels(x, values):
        return reference.convolution(x, values, bias, indices, active, (sets.rows, sets.width), window)
    if torch.compiler.is_compiling():
        from . import operators

        flat = [number for pair in window for number in pair]
        return operators.convolution(x, values, bias, indices, active, sets.number, sets.rows, flat)
    return _Convolution.apply(x.contiguous(), values, bias, sets.of(indices, active), window)


def two_layers(x: Tensor, first: Layer, second: Layer, between: kernels.Between) -> Tensor:
    """second(between(first(x))), for what the kernels know: x is [positions, inputs]."""
    weights, keep = (first[2], second[2]), torch.is_grad_enabled()
    return _TwoLayers.apply(x.contiguous(), *first[:2], *second[:2], weights, between, keep)


def linear_forward(
    x: Tensor, values: Tensor, bias: Tensor | None, weight: kernels.Weight, rows: int
) -> Tensor:
    y = x.new_empty(x.shape[0], rows)
    threads = torch.get_num_threads()
    kernels.linear_forward(weight, capsule(values), capsule(x), _optional(bias), capsule(y), threads)
    return y


def linear_backward(
    dy: Tensor,
    x: Tensor | None,
    values: Tensor,
    weight: kernels.Weight,
    width: int,
    needed: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    dy = dy.contiguous()
    dx = dy.new_empty(dy.shape[0], width) if needed[0] else None
    dvalues = torch.empty_like(values) if needed[1] else None
    dbias = dy.new_empty(dy.shape[1]) if needed[2] else None
    # Whoever needs no gradient of the values has no use for x: it may be anything of the shape.
    x = dy.new_empty(dy.shape[0], width) if x is None else x
    kernels.linear_backward(
        weight,
        capsule(values),
        capsule(x),
        capsule(dy),
        _optional(dx),
        _optional(dvalues),
        _optional(dbias),
        torch.get_num_threads(),
    )
    return dx, dvalues, dbias


def convolution_forward(
    x: Tensor, values: Tensor, bias: Tensor | None, weight: kernels.Weight, rows: int, window: Window, keep: bool
) -> tuple[Tensor, kernels.Activation | None]:
    height, width = kernels.convolution_output(window, x.shape[2], x.shape[3])
    y = x.new_empty(x.shape[0], rows, height, width)
    threads = torch.get_num_threads()
    kept = kernels.convolution_forward(
        weight, window, capsule(values), capsule(x), _optional(bias), capsule(y), keep, threads
    )
    return y, kept


def convolution_backward(
    dy: Tensor,
    x: kernels.Activation | Tensor | None,
    size: tuple[int, int, int, int],
    values: Tensor,
    weight: kernels.Weight,
    window: Window,
    needed: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    dy = dy.contiguous()
    dx = dy.new_empty(size) if needed[0] else None
    dvalues = torch.empty_like(values) if needed[1] else None
    dbias = dy.new_empty(dy.shape[1]) if needed[2] else None
    x = dy.new_empty(size) if x is None else x
    kernels.convolution_backward(
        weight,
        window,
        capsule(values),
        capsule(x) if isinstance(x, Tensor) else x,
        size,
        capsule(dy),
        _optional(dx),
        _optional(dvalues),
        _optional(dbias),
        torch.get_num_threads(),
    )
    return dx, dvalues, dbias


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, weight: kernels.Weight) -> Tensor:
        rows, width = weight.shape
        ctx.save_for_backward(values, x if ctx.needs_input_grad[1] else None)
        ctx.weight, ctx.width = weight, width
        return linear_forward(x, values, bias, weight, rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        values, x = ctx.saved_tensors
        gradients = linear_backward(dy, x, values, ctx.weight, ctx.width, ctx.needs_input_grad[:3])
        return *gradients, None


class _TwoLayers(torch.autograd.Function):
    """Keeps what is between as the kernels have it."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        first_values: Tensor,
        first_bias: Tensor | None,
        second_values: Tensor,
        second_bias: Tensor | None,
        weights: tuple[kernels.Weight, kernels.Weight],
        between: kernels.Between,
        keep: bool,
    ) -> Tensor:
        y = x.new_empty(x.shape[0], weights[1].shape[0])
        ctx.hidden = kernels.two_layers_forward(
            *weights,
            (capsule(first_values), capsule(second_values)),
            (_optional(first_bias), _optional(second_bias)),
            between,
            capsule(x),
            capsule(y),
            keep,
            torch.get_num_threads(),
        )
        ctx.save_for_backward(first_values, second_values, x if ctx.needs_input_grad[1] else None)
        ctx.weights, ctx.size = weights, x.shape
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        first_values, second_values, x = ctx.saved_tensors
        first, second = ctx.weights
        sizes = ctx.size, first_values.shape, (first.shape[0],), second_values.shape, (second.shape[0],)
        needed = ctx.needs_input_grad[:5]
        gradients = [dy.new_empty(size) if asked else None for size, asked in zip(sizes, needed)]
        dx, *others = map(_optional, gradients)
        kernels.two_layers_backward(
            first,
            second,
            (capsule(first_values), capsule(second_values)),
            ctx.hidden,
            # Whoever needs no gradient of the first layer's values has no use for x: it may be anything of the shape.
            capsule(dy.new_empty(ctx.size) if x is None else x),
            capsule(dy.contiguous()),
            dx,
            others[0::2],
            others[1::2],
            torch.get_num_threads(),
        )
        return *gradients, None, None, None


class _Convolution(torch.autograd.Function):
    """Keeps x as the kernels want it, not as it came: the backward pass then has no need to lay it out again."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, weight: kernels.Weight, window: Window
    ) -> Tensor:
        rows, _ = weight.shape
        y, ctx.kept = convolution_forward(x, values, bias, weight, rows, window, ctx.needs_input_grad[1])
        ctx.save_for_backward(values)
        ctx.weight, ctx.window, ctx.size = weight, window, tuple(x.shape)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (values,) = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        gradients = convolution_backward(dy, ctx.kept, ctx.size, values, ctx.weight, ctx.window, needed)
        return *gradients, None, None
