"""The same products by PyTorch's own operations, for devices and types that the kernels do not know yet.

Correct and compact rather than fast: entries go by in chunks, so nothing of the dense weight's size is formed.
"""

from __future__ import annotations

from typing import Any, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

# Numbers of a chunk: positions × entries.
CHUNK = 1 << 22


def _chunks(indices: Tensor, count: int, width: int, positions: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Which of the first `count` entries, their rows and their columns."""
    step = max(1, CHUNK // max(1, positions))
    for start in range(0, count, step):
        part = slice(start, min(count, start + step))
        flat = indices[part].long()
        yield part, flat // width, flat % width


def _forward(x: Tensor, values: Tensor, indices: Tensor, count: int, shape: tuple[int, int]) -> Tensor:
    y = x.new_zeros(x.shape[0], shape[0])
    for part, rows, columns in _chunks(indices, count, shape[1], x.shape[0]):
        y.index_add_(1, rows, x.index_select(1, columns) * values[part])
    return y


def _input_gradient(dy: Tensor, values: Tensor, indices: Tensor, count: int, shape: tuple[int, int]) -> Tensor:
    dx = dy.new_zeros(dy.shape[0], shape[1])
    for part, rows, columns in _chunks(indices, count, shape[1], dy.shape[0]):
        dx.index_add_(1, columns, dy.index_select(1, rows) * values[part])
    return dx


def _values_gradient(dy: Tensor, x: Tensor, indices: Tensor, shape: tuple[int, int], out: Tensor) -> None:
    """Adds to `out`, of all entries."""
    for part, rows, columns in _chunks(indices, indices.numel(), shape[1], dy.shape[0]):
        out[part] += (dy.index_select(1, rows) * x.index_select(1, columns)).sum(0)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, indices: Tensor, count: int, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, values, indices)
        ctx.count, ctx.shape = count, shape
        return _forward(x, values, indices, count, shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, values, indices = ctx.saved_tensors
        dx = dvalues = None
        if ctx.needs_input_grad[0]:
            dx = _input_gradient(dy, values, indices, ctx.count, ctx.shape)
        if ctx.needs_input_grad[1]:
            dvalues = torch.zeros_like(values)
            _values_gradient(dy, x, indices, ctx.shape, dvalues)
        return dx, dvalues, None, None, None


class _Convolution(torch.autograd.Function):
    """Image after image, each unfolded for itself."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        values: Tensor,
        indices: Tensor,
        count: int,
        shape: tuple[int, int],
        window: tuple[tuple[int, int], ...],
    ) -> Tensor:
        ctx.save_for_backward(x, values, indices)
        ctx.count, ctx.shape, ctx.window = count, shape, window
        sides = [_side(x.shape[2 + at], *(pair[at] for pair in window)) for at in range(2)]
        y = x.new_empty(x.shape[0], shape[0], *sides)
        for image, out in zip(x, y):
            out.copy_(_forward(_unfold(image, window), values, indices, count, shape).T.view_as(out))
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, values, indices = ctx.saved_tensors
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dvalues = torch.zeros_like(values) if ctx.needs_input_grad[1] else None
        for at in range(x.shape[0]):
            gradient = dy[at].flatten(1).T.contiguous()
            if dvalues is not None:
                _values_gradient(gradient, _unfold(x[at], ctx.window), indices, ctx.shape, dvalues)
            if dx is not None:
                unfolded = _input_gradient(gradient, values, indices, ctx.count, ctx.shape)
                dx[at] = F.fold(unfolded.T[None], x.shape[2:], **_arguments(ctx.window))[0]
        return dx, dvalues, None, None, None, None


def _side(side: int, size: int, stride: int, padding: int, dilation: int) -> int:
    return (side + 2 * padding - dilation * (size - 1) - 1) // stride + 1


def _arguments(window: tuple[tuple[int, int], ...]) -> dict[str, tuple[int, int]]:
    return dict(zip(("kernel_size", "stride", "padding", "dilation"), window))


def _unfold(image: Tensor, window: tuple[tuple[int, int], ...]) -> Tensor:
    """[output pixels, channels × taps]"""
    return F.unfold(image[None], **_arguments(window))[0].T.contiguous()


def linear(
    x: Tensor, values: Tensor, bias: Tensor | None, indices: Tensor, active: Tensor, shape: tuple[int, int]
) -> Tensor:
    """As `functional.linear`."""
    y = _Linear.apply(x, values.to(x.dtype), indices, _count(indices, active), shape)
    return y if bias is None else y + bias.to(y.dtype)


def convolution(
    x: Tensor,
    values: Tensor,
    bias: Tensor | None,
    indices: Tensor,
    active: Tensor,
    shape: tuple[int, int],
    window: tuple[tuple[int, int], ...],
) -> Tensor:
    """As `functional.convolution`."""
    y = _Convolution.apply(x, values.to(x.dtype), indices, _count(indices, active), shape, window)
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


def _count(indices: Tensor, active: Tensor) -> int:
    # A tensor without numbers has only its shape.
    return indices.numel() if active.is_meta else int(active)
