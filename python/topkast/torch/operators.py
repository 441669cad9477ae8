"""The same products as opaque operators, for `torch.compile`: they take and return tensors alone."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import torch
from torch import Tensor

from . import functional
from .sets import Sets


def _window(flat: List[int]) -> functional.Window:
    a, b, c, d, e, f, g, h = flat
    return (a, b), (c, d), (e, f), (g, h)



def _or_empty(tensor: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0) if tensor is None else tensor


@torch.library.custom_op("topkast::linear", mutates_args=())
def linear(
    x: Tensor, values: Tensor, bias: Optional[Tensor], indices: Tensor, active: Tensor, sets: int, rows: int
) -> Tensor:
    weight = Sets.numbered(sets).of(indices, active)
    return functional.linear_forward(x.contiguous(), values, bias, weight, rows)


@linear.register_fake
def _(x: Tensor, values: Tensor, bias: Any, indices: Tensor, active: Tensor, sets: int, rows: int) -> Tensor:
    return x.new_empty(x.shape[0], rows)


@torch.library.custom_op("topkast::linear_backward", mutates_args=())
def linear_backward(
    dy: Tensor, x: Tensor, values: Tensor, indices: Tensor, active: Tensor, sets: int, needed: List[bool]
) -> Tuple[Tensor, Tensor, Tensor]:
    weight, width = Sets.numbered(sets).of(indices, active), x.shape[1]
    asked = (needed[0], needed[1], needed[2])
    dx, dvalues, dbias = functional.linear_backward(dy, x.contiguous(), values, weight, width, asked)
    return _or_empty(dx, dy), _or_empty(dvalues, dy), _or_empty(dbias, dy)


@linear_backward.register_fake
def _(
    dy: Tensor, x: Tensor, values: Tensor, indices: Tensor, active: Tensor, sets: int, needed: List[bool]
) -> Tuple[Tensor, Tensor, Tensor]:
    sizes = (x.shape, values.shape, (dy.shape[1],))
    dx, dvalues, dbias = (dy.new_empty(size if asked else (0,)) for size, asked in zip(sizes, needed))
    return dx, dvalues, dbias


def _linear_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, bias, indices, active, ctx.sets, _ = inputs
    ctx.save_for_backward(x, values, indices, active)


def _linear_gradients(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, values, indices, active = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:3])
    found = linear_backward(dy, x, values, indices, active, ctx.sets, needed)
    return *(one if asked else None for one, asked in zip(found, needed)), None, None, None, None


linear.register_autograd(_linear_gradients, setup_context=_linear_context)


@torch.library.custom_op("topkast::convolution", mutates_args=())
def convolution(
    x: Tensor,
    values: Tensor,
    bias: Optional[Tensor],
    indices: Tensor,
    active: Tensor,
    sets: int,
    rows: int,
    window: List[int],
) -> Tensor:
    weight = Sets.numbered(sets).of(indices, active)
    return functional.convolution_forward(x.contiguous(), values, bias, weight, rows, _window(window), False)[0]


@convolution.register_fake
def _(
    x: Tensor,
    values: Tensor,
    bias: Any,
    indices: Tensor,
    active: Tensor,
    sets: int,
    rows: int,
    window: List[int],
) -> Tensor:
    sides = []
    for side, size, stride, padding, dilation in zip(x.shape[2:], *_window(window)):
        sides.append((side + 2 * padding - dilation * (size - 1) - 1) // stride + 1)
    return x.new_empty(x.shape[0], rows, *sides)


@torch.library.custom_op("topkast::convolution_backward", mutates_args=())
def convolution_backward(
    dy: Tensor,
    x: Tensor,
    values: Tensor,
    indices: Tensor,
    active: Tensor,
    sets: int,
    window: List[int],
    needed: List[bool],
) -> Tuple[Tensor, Tensor, Tensor]:
    weight = Sets.numbered(sets).of(indices, active)
    images, channels, height, width = x.shape
    dx, dvalues, dbias = functional.convolution_backward(
        dy,
        x.contiguous(),
        (images, channels, height, width),
        values,
        weight,
        _window(window),
        (needed[0], needed[1], needed[2]),
    )
    return _or_empty(dx, dy), _or_empty(dvalues, dy), _or_empty(dbias, dy)


@convolution_backward.register_fake
def _(
    dy: Tensor,
    x: Tensor,
    values: Tensor,
    indices: Tensor,
    active: Tensor,
    sets: int,
    window: List[int],
    needed: List[bool],
) -> Tuple[Tensor, Tensor, Tensor]:
    sizes = (x.shape, values.shape, (dy.shape[1],))
    dx, dvalues, dbias = (dy.new_empty(size if asked else (0,)) for size, asked in zip(sizes, needed))
    return dx, dvalues, dbias


def _convolution_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, bias, indices, active, ctx.sets, _, ctx.window = inputs
    ctx.save_for_backward(x, values, indices, active)


def _convolution_gradients(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, values, indices, active = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:3])
    found = convolution_backward(dy, x, values, indices, active, ctx.sets, ctx.window, needed)
    return *(one if asked else None for one, asked in zip(found, needed)), None, None, None, None, None


convolution.register_autograd(_convolution_gradients, setup_context=_convolution_context)
