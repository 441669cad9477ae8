"""Ranks of a distributed run must have the same sets: their gradients are summed entry by entry."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist

from .layer import SparseLayer


def several() -> bool:
    """Whether there are other ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def check_same(layers: Mapping[str, SparseLayer]) -> None:
    """Fails on every rank if a layer's sets differ between ranks."""
    if not several():
        return
    sums = torch.stack([_checksum(layer) for layer in layers.values()])
    least, most = sums.clone(), sums
    dist.all_reduce(least, dist.ReduceOp.MIN)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    different = [name for name, same in zip(layers, (least == most).tolist()) if not same]
    if different:
        raise RuntimeError(
            f"the sets of {', '.join(different)} differ between ranks: seed all ranks alike before sparsify, and load the same "
            "checkpoint on all of them"
        )


def _checksum(layer: SparseLayer) -> torch.Tensor:
    """Of the indices in their order; overflow is part of it."""
    indices = layer.indices.long()
    places = torch.arange(1, 2 * indices.numel(), 2, device=indices.device)
    return (indices * 0x9E3779B97F4A7 + places * 0x2545F4914F6CD).bitwise_xor(places).mul(places).sum() + layer.active
