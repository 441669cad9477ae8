"""SET, RigL and pruning: A = B, and what is dropped is forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.grad
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import _topkast as kernels
from .conv import SparseConv2d
from .layer import SparseLayer
from .ranks import several
from .sets import capsule, numbers
from .topology import Topology, _for_method

# Numbers of the dense gradient at a time.
TILE = 1 << 20


class _DropAndGrow(Topology):
    """Every `every` steps until step `end` the fraction `drop_fraction`/2·(1 + cos(π·t/end)) of A is dropped, and as much grown at
    value 0. Needs B = A: leave `backward_sparsity` out in `sparsify`."""

    method = ""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Iterable[Optimizer] | None = None,
        *,
        end: int,
        every: int = 100,
        drop_fraction: float = 0.3,
        averages: Sequence[nn.Module] = (),
    ) -> None:
        if not 0 <= drop_fraction <= 1:
            raise ValueError(f"drop_fraction must be 0 to 1, not {drop_fraction}")
        if every < 1 or end < 0:
            raise ValueError(f"every must be at least 1 and end at least 0, not {every} and {end}")
        super().__init__(model, optimizer, averages=averages)
        self.every, self.end, self.drop_fraction = every, end, drop_fraction
        for name, layer in self.layers.items():
            _for_method(name, layer, self.method)

    def _fraction(self, step: int) -> float | None:
        """What is dropped after this step, if anything."""
        return kernels.drop_fraction(self.drop_fraction, self.every, self.end, step)


class SET(_DropAndGrow):
    """The smallest are dropped, and as many grow at random (Mocanu et al. 2018)."""

    method = "set"

    def _update(self) -> None:
        fraction = self._fraction(self.steps)
        if fraction is None:
            return
        changed = False
        for name, layer in self.layers.items():
            raw = layer.extension(self.method).set(capsule(layer.cpu_values()), fraction, self.steps)
            changed |= self._follow(name, raw)
        self._followed(changed)


class RigL(_DropAndGrow):
    """The smallest are dropped, and those with the largest gradients grow (Evci et al. 2020): gradients of the batches of the step
    before, of which x and dy are kept for that. The dense gradient is formed some rows at a time."""

    method = "rigl"

    def __init__(self, model: nn.Module, *arguments: Any, **named: Any) -> None:
        super().__init__(model, *arguments, **named)
        # What the coming step's passes saw and got back: (x, dy) of each pass through a layer.
        self._passes: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in self.layers}
        self._listening = False
        for name, layer in self.layers.items():
            layer.register_forward_hook(self._listener(name))
        self._prepare()

    def _prepare(self) -> None:
        self._listening = self._fraction(self.steps + 1) is not None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._prepare()

    def _listener(self, name: str) -> Any:
        def forward(layer: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
            if self._listening and y.requires_grad:
                x = inputs[0].detach()
                y.register_hook(lambda dy: self._passes[name].append((x, dy.detach())))

        return forward

    def _update(self) -> None:
        fraction = self._fraction(self.steps)
        if fraction is not None:
            changed = False
            for name, layer in self.layers.items():
                values = layer.cpu_values()
                weight = layer.extension(self.method)
                remaining = numbers(weight.remaining(capsule(values), fraction), torch.int64)
                grown = self._largest(layer, self._passes[name], remaining, weight.active - remaining.numel())
                changed |= self._follow(name, weight.rigl(capsule(values), fraction, capsule(grown)))
                self._passes[name].clear()
            self._followed(changed)
        self._prepare()

    @torch.no_grad()
    def _largest(
        self, layer: SparseLayer, passes: list[tuple[Tensor, Tensor]], remaining: Tensor, count: int
    ) -> Tensor:
        """The flat indices, ascending, of the `count` largest gradients outside those that remain."""
        rows, width = layer.shape
        step = max(1, TILE // width)
        best = torch.empty(0)
        places = torch.empty(0, dtype=torch.int64)
        for first in range(0, rows, step):
            last = min(rows, first + step)
            tile = torch.zeros(last - first, width, device=layer.values.device)
            for x, dy in passes:
                tile += _gradient(layer, x.float(), dy.float(), first, last)
            if several():
                dist.all_reduce(tile)
            sizes = tile.abs_().flatten().cpu()
            inside = remaining[(remaining >= first * width) & (remaining < last * width)] - first * width
            sizes[inside] = -1.0
            found = sizes.topk(min(count, sizes.numel()))
            best = torch.cat([best, found.values])
            places = torch.cat([places, found.indices + first * width])
            kept = best.topk(min(count, best.numel())).indices
            best, places = best[kept], places[kept]
        return places.sort().values


def _gradient(layer: SparseLayer, x: Tensor, dy: Tensor, first: int, last: int) -> Tensor:
    """Some rows of the dense weight's gradient."""
    if isinstance(layer, SparseConv2d):
        size, stride, padding, dilation = layer.window
        x, dy = (x, dy) if x.dim() == 4 else (x[None], dy[None])
        shape = (last - first, layer.in_channels, *size)
        part = dy[:, first:last].contiguous()
        return torch.nn.grad.conv2d_weight(x, shape, part, stride, padding, dilation).flatten(1)
    return dy.reshape(-1, layer.shape[0])[:, first:last].T @ x.reshape(-1, layer.shape[1])


class Pruning(Topology):
    """Every `every` steps until step `end` the smallest are dropped for good, up to `final_sparsity`, along a cubic curve (Zhu and
    Gupta 2017). Start with everything: `sparsify(model, 0.0)`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Iterable[Optimizer] | None = None,
        *,
        final_sparsity: float,
        end: int,
        every: int = 100,
        averages: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__(model, optimizer, averages=averages)
        self.every, self.end = every, end
        shapes = [layer.shape for layer in self.layers.values()]
        self.last = {
            name: count
            for name, (count, _) in zip(
                self.layers, kernels.counts(final_sparsity, final_sparsity, shapes, "uniform")
            )
        }
        # Impossible numbers are an error now, not at the first update.
        kernels.pruned(every, end, 0, 1, 1)
        for name, layer in self.layers.items():
            _for_method(name, layer, "pruning")

    def _update(self) -> None:
        changed = False
        for name, layer in self.layers.items():
            keep = kernels.pruned(self.every, self.end, self.steps, layer.total, self.last[name])
            if keep is not None:
                raw = layer.extension("pruning").prune(capsule(layer.cpu_values()), keep)
                changed |= self._follow(name, raw)
        self._followed(changed)
