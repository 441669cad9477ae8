"""The convolution that every rival gets, and the check of what it makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from .cases import ConvolutionCase

TOLERANCE = 1e-4
"""Largest error relative to the largest entry: the rounding of sums of some thousand float32 products."""


@dataclass
class ConvolutionData:
    """Images [images, channels, y, x], the weight [outputs, inputs, y, x] with its zeros, and the gradient of the outputs."""

    case: ConvolutionCase
    weight: np.ndarray
    x: np.ndarray
    dy: np.ndarray


@dataclass
class Results:
    """What a rival computed: `y` and `dx` as it is given x, the weight gradient of the non-zeros in row order."""

    y: np.ndarray
    dx: np.ndarray
    dw: np.ndarray


def make(case: ConvolutionCase) -> ConvolutionData:
    """The same numbers in every worker, the pattern uniformly random and of the size of the forward set."""
    rng = np.random.default_rng(1)
    shape = (case.outputs, case.inputs, case.kernel, case.kernel)
    total = int(np.prod(shape))
    entries = rng.permutation(total)[: int(total * (1 - case.forward) + 1e-6)]
    weight = np.zeros(shape, np.float32)
    values = rng.standard_normal(len(entries), dtype=np.float32)
    weight.flat[entries] = np.where(values == 0, np.float32(1), values)
    x = rng.standard_normal((case.images, case.inputs, case.size, case.size), dtype=np.float32)
    dy = rng.standard_normal((case.images, case.outputs, case.size, case.size), dtype=np.float32)
    return ConvolutionData(case, weight, x, dy)


def check(data: ConvolutionData, results: Results) -> None:
    """Raises where a product differs from that of PyTorch in float64, for the first image; the weight gradient, which is a sum over all
    images, for all of them."""
    weight = torch.from_numpy(data.weight).double().requires_grad_()
    for what, images in (("products", slice(1)), ("weight gradient", slice(None))):
        x = torch.from_numpy(data.x[images]).double().requires_grad_()
        weight.grad = None
        y = F.conv2d(x, weight, padding=data.case.padding)
        y.backward(torch.from_numpy(data.dy[images]).double())
        if what == "products":
            agree("forward", results.y[images], y.detach().numpy())
            agree("input gradient", results.dx[images], x.grad.numpy())
        else:
            agree(what, results.dw, weight.grad.numpy()[data.weight != 0])


def agree(what: str, got: np.ndarray, want: np.ndarray) -> None:
    if got.shape != want.shape:
        raise ValueError(f"the {what} has shape {got.shape}, not {want.shape}")
    error = float(np.abs(got - want).max() / np.abs(want).max())
    if not error < TOLERANCE:
        raise ValueError(f"the {what} differs from PyTorch's in float64 by {error:.1e} of its largest entry")
