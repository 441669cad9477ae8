"""What sparse layers share: values, sets, and what checkpoints hold of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._topkast import Weight, counts
from .sets import Sets, capsule


class SparseLayer(nn.Module):
    """A weight [rows, width] of which only the entries of B are held.

    `values` has their numbers, A's first, then those of B\\A, each in ascending order of flat index; `indices` the flat indices in
    the same order; `active` is |A|. The layer computes with A; all of B gets gradients.
    """

    values: nn.Parameter
    indices: Tensor
    active: Tensor
    bias: nn.Parameter | None

    def __init__(self, sets: Sets, bias: Tensor | None, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.sets = sets
        values, indices = sets.adopt(sets.weight) if sets.weight is not None else (torch.empty(0), torch.empty(0))
        count = sets.weight.active if sets.weight is not None else 0
        self.values = nn.Parameter(values.to(device=device, dtype=dtype))
        self.register_buffer("indices", indices.to(device=device))
        self.register_buffer("active", torch.tensor(count, device=device))
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias.to(device=device, dtype=dtype)))
        sets.follow(self.indices, self.active)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns: outputs, inputs (× taps)."""
        return self.sets.rows, self.sets.width

    @property
    def total(self) -> int:
        """n, the entries of the dense weight."""
        return self.sets.rows * self.sets.width

    @property
    def density(self) -> float:
        """D, the forward density."""
        return int(self.active) / self.total

    def extension(self, method: str | None = None) -> Weight:
        """What the extension keeps for this layer; for a `method` of changing the sets, which then stays."""
        if method is None:
            return self.sets.of(self.indices, self.active)
        return self.sets.for_method(method, self.indices, self.active)

    @torch.no_grad()
    def to_dense(self, backward: bool = False) -> Tensor:
        """α, what the layer computes with, as a dense [rows, width] tensor; with `backward` all of B."""
        count = self.values.numel() if backward else int(self.active)
        dense = self.values.new_zeros(self.total)
        dense[self.indices[:count].long()] = self.values[:count]
        return dense.view(self.shape)

    def adopt(self, sources: Tensor) -> Tensor:
        """Takes new sets and values from the extension; returns, for every entry, where it was, on the layer's device."""
        weight = self.sets.weight
        assert weight is not None
        values = torch.empty(weight.backward)
        weight.take_values(capsule(values))
        indices = self.sets.indices()
        with torch.no_grad():
            if values.shape == self.values.shape:
                self.values.copy_(values)
                self.indices.copy_(indices)
            else:
                self.values.data = values.to(self.values)
                self.indices = indices.to(self.indices.device)
            self.active.fill_(weight.active)
        self.sets.follow(self.indices, self.active)
        return sources.to(self.values.device)

    @torch.no_grad()
    def set_entries(self, indices: Tensor, values: Tensor) -> None:
        """B = A = these, ascending, with their values; C is not known then, so topologies that need it cannot go on."""
        problem = self._problem(values, indices, indices.numel())
        if problem:
            raise ValueError(problem)
        self.values.data = values.to(self.values, copy=True)
        self.values.grad = None
        self.indices = indices.to(self.indices, copy=True)
        self.active.fill_(indices.numel())
        self.sets.load({"shape": self.shape, "method": "static", "seed": self.sets.seed, "initial": None, "reservoir": None})

    def cpu_values(self) -> Tensor:
        """The values as the extension takes them."""
        return self.values.detach().to("cpu", torch.float32).contiguous()

    def get_extra_state(self) -> dict[str, Any]:
        return self.sets.state()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.sets.load(state)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: Any, strict: bool, *lists: list[str]
    ) -> None:
        errors: list[str] = lists[-1]
        values, indices = state_dict.get(f"{prefix}values"), state_dict.get(f"{prefix}indices")
        active = state_dict.get(f"{prefix}active")
        extra = state_dict.get(f"{prefix}_extra_state")
        if values is not None and indices is not None and active is not None:
            problem = self._problem(values, indices, int(active))
            if problem:
                errors.append(f"{prefix[:-1] or 'the layer'}: {problem}")
                return
        pruned = isinstance(extra, dict) and extra.get("method") == "pruning"
        if pruned and values is not None and values.shape != self.values.shape:
            # What has been pruned has as many entries as it has.
            self.values.data = self.values.new_empty(values.shape)
            self.indices = self.indices.new_empty(values.shape)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)

    def _problem(self, values: Tensor, indices: Tensor, active: int) -> str | None:
        """What is wrong with tensors of a checkpoint."""
        if values.shape != indices.shape or values.dim() != 1:
            return f"values and indices must be vectors of one length, not {tuple(values.shape)}, {tuple(indices.shape)}"
        if indices.is_floating_point() or not 0 <= active <= values.numel():
            return f"{active} entries cannot be active of {values.numel()}"
        if indices.is_meta:
            return None
        for part in (indices[:active].long(), indices[active:].long()):
            if part.numel() and (part[0] < 0 or part[-1] >= self.total or (part[1:] <= part[:-1]).any()):
                return f"the indices of A, and of B\\A, must ascend and be below {self.total}"
        return None

    def extra_repr(self) -> str:
        rows, width = self.shape
        return f"{rows}x{width}, |A|={int(self.active)}, |B|={self.values.numel()}, bias={self.bias is not None}"


def fresh_sets(
    shape: tuple[int, int],
    forward_sparsity: float,
    backward_sparsity: float | None,
    deviation: float,
    distribution: str = "uniform",
    seed: int | None = None,
) -> Sets:
    """Sets of a fresh weight whose θ⁰ is known by rank, so that C is never stored."""
    backward = forward_sparsity if backward_sparsity is None else backward_sparsity
    [(active, count)] = counts(forward_sparsity, backward, [shape], "uniform")
    sets = Sets(*shape, "magnitude", new_seed() if seed is None else seed)
    sets.initial = (deviation, distribution)
    sets.weight = Weight.fresh(*shape, active, count, sets.method, sets.seed, deviation, distribution)
    return sets


def new_seed() -> int:
    """From PyTorch's generator, so that `torch.manual_seed` decides."""
    return int(torch.randint(2**62, ()).item())
