"""The layer that every rival gets, and the check of what it makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cases import LayerCase

TOLERANCE = 1e-4
"""Largest error relative to the largest entry: the rounding of sums of some thousand float32 products."""


@dataclass
class LayerData:
    """Inputs [features × positions], the weight as dense array and as compressed rows, and the gradient of the outputs."""

    weight: np.ndarray
    x: np.ndarray
    dy: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        return self.weight != 0


@dataclass
class Results:
    """What a rival computed: `y` and `dx` as [features × positions], the weight gradient of the non-zeros in row order."""

    y: np.ndarray
    dx: np.ndarray
    dw: np.ndarray


def make(case: LayerCase) -> LayerData:
    """The same numbers in every worker. The pattern is uniformly random, as that of Topkast's initial weights is; its size
    is that of the forward set, since the rivals know only one set."""
    rng = np.random.default_rng(1)
    total = case.rows * case.cols
    entries = rng.permutation(total)[: int(total * (1 - case.forward) + 1e-6)]
    weight = np.zeros((case.rows, case.cols), np.float32)
    values = rng.standard_normal(len(entries), dtype=np.float32)
    weight.flat[entries] = np.where(values == 0, np.float32(1), values)
    x = rng.standard_normal((case.cols, case.positions), dtype=np.float32)
    dy = rng.standard_normal((case.rows, case.positions), dtype=np.float32)
    return LayerData(weight, x, dy)


def check(data: LayerData, results: Results) -> None:
    """Raises where a product differs from the dense one in numpy."""
    weight, x, dy = data.weight, data.x, data.dy
    for what, got, want in [
        ("forward", results.y, weight @ x),
        ("input gradient", results.dx, weight.T @ dy),
        ("weight gradient", results.dw, (dy @ x.T)[data.mask]),
    ]:
        if got.shape != want.shape:
            raise ValueError(f"the {what} has shape {got.shape}, not {want.shape}")
        error = float(np.abs(got - want).max() / np.abs(want).max())
        if not error < TOLERANCE:
            raise ValueError(f"the {what} differs from numpy's by {error:.1e} of its largest entry")
