"""A layer's sets: what the extension keeps for it, made of the layer's buffers when first needed."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack

from .._topkast import Weight

_numbers = itertools.count()
_all: weakref.WeakValueDictionary[int, Sets] = weakref.WeakValueDictionary()

# What `Weight` calls the ways to choose B\A by magnitude or at random; only these have a C that may return.
EXPLORING = ("magnitude", "random", "mixed")


def capsule(tensor: Tensor) -> Any:
    """A contiguous tensor on the CPU as the extension takes it: without a copy."""
    return to_dlpack(tensor.detach())


def numbers(raw: bytearray, dtype: torch.dtype) -> Tensor:
    """What the extension returns as bytes, as a tensor."""
    return torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)


class Sets:
    """Where the entries of one weight are. `initial` is (standard deviation, distribution) of a fresh θ⁰ known by rank; `reservoir`
    two tensors, what a checkpoint keeps of C; either is None where there is none."""

    def __init__(self, rows: int, width: int, method: str, seed: int) -> None:
        self.rows, self.width, self.method, self.seed = rows, width, method, seed
        self.initial: tuple[float, str] | None = None
        self.reservoir: tuple[Tensor, Tensor] | None = None
        self.weight: Weight | None = None
        # Whether the weight knows C, if its method has one.
        self._complete = False
        self._seen: tuple[Any, ...] | None = None
        self._register()

    def _register(self) -> None:
        self.number = next(_numbers)
        _all[self.number] = self

    @staticmethod
    def numbered(number: int) -> Sets:
        """For operators, which take no objects."""
        return _all[number]

    def adopt(self, weight: Weight) -> tuple[Tensor, Tensor]:
        """Takes a weight just made; returns its values and indices."""
        values = torch.empty(weight.backward)
        weight.take_values(capsule(values))
        self.weight, self._complete = weight, True
        return values, self.indices()

    def indices(self) -> Tensor:
        """The flat indices of B in the order of the values, as a layer keeps them."""
        assert self.weight is not None
        indices = torch.empty(self.weight.backward, dtype=torch.int64)
        self.weight.indices(capsule(indices))
        small = self.rows * self.width <= torch.iinfo(torch.int32).max
        return indices.to(torch.int32) if small else indices

    def follow(self, indices: Tensor, active: Tensor) -> None:
        """The buffers are what the weight says, from now on."""
        self._seen = _state_of(indices, active)

    def of(self, indices: Tensor, active: Tensor) -> Weight:
        """The weight of these buffers; made anew where someone else has changed them."""
        state = _state_of(indices, active)
        if self.weight is None or state != self._seen:
            if self.weight is None or not self._is(indices, active):
                self._restore(indices, active)
            self._seen = state
        assert self.weight is not None
        return self.weight

    def for_method(self, method: str, indices: Tensor, active: Tensor) -> Weight:
        """The same for a method, under which it then stays."""
        weight = self.of(indices, active)
        if method != self.method or not self._complete:
            self.freeze()
            if method not in EXPLORING:
                self.reservoir = None
            self.method = method
            self._restore(indices, active, strict=True)
            assert self.weight is not None
            weight = self.weight
        return weight

    def _is(self, indices: Tensor, active: Tensor) -> bool:
        assert self.weight is not None
        same_sizes = (self.weight.backward, self.weight.active) == (indices.numel(), int(active))
        return same_sizes and torch.equal(self.indices(), indices.cpu())

    def _restore(self, indices: Tensor, active: Tensor, strict: bool = False) -> None:
        """From the buffers and, where it is known, C."""
        method, reservoir, initial = self.method, self.reservoir, self.initial
        complete = True
        explores = indices.numel() > int(active)
        if method in EXPLORING and reservoir is None or explores and method not in EXPLORING:
            if strict:
                raise ValueError(
                    "C's values are not known here: they come with sparsify(), or with a state_dict of a model that has them"
                )
            # For the products alone.
            complete, method, initial = False, "magnitude", (0.0, "uniform")
            reservoir = (torch.empty(0, dtype=torch.int64), torch.empty(0))
        self.weight = Weight.restored(
            self.rows,
            self.width,
            int(active),
            method,
            self.seed,
            capsule(indices.to("cpu", torch.int64).contiguous()),
            None if reservoir is None else [capsule(part.contiguous()) for part in reservoir],
            initial,
        )
        # From now on C is the weight's; what was loaded is of the past.
        self._complete, self.reservoir = complete, None

    def freeze(self) -> None:
        """Copies C out of the extension."""
        if self.weight is None or not self._complete or self.method not in EXPLORING:
            return
        saved = self.weight.reservoir()
        if saved is None:
            return
        if "theta" in saved:
            self.reservoir = numbers(saved["theta"], torch.float32), numbers(saved["dormant"], torch.int64)
        else:
            self.reservoir = numbers(saved["indices"], torch.int64), numbers(saved["values"], torch.float32)

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        known = self.reservoir
        self.freeze()
        reservoir, self.reservoir = self.reservoir, known
        initial = None if self.initial is None else list(self.initial)
        return {
            "shape": [self.rows, self.width],
            "method": self.method,
            "seed": self.seed,
            "initial": initial,
            "reservoir": None if reservoir is None else list(reservoir),
        }

    def load(self, state: dict[str, Any]) -> None:
        """As a checkpoint has it; the buffers are loaded before."""
        if list(state["shape"]) != [self.rows, self.width]:
            raise ValueError(f"the checkpoint's weight is of shape {state['shape']}, not {[self.rows, self.width]}")
        self.method, self.seed = str(state["method"]), int(state["seed"])
        initial, reservoir = state["initial"], state["reservoir"]
        self.initial = None if initial is None else (float(initial[0]), str(initial[1]))
        self.reservoir = None if reservoir is None else (reservoir[0].cpu(), reservoir[1].cpu())
        self.weight = self._seen = None
        self._complete = False

    def __getstate__(self) -> dict[str, Any]:
        return self.state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.rows, self.width = state["shape"]
        self._register()
        self.load(state)


def _state_of(indices: Tensor, active: Tensor) -> tuple[Any, ...]:
    return id(indices), indices._version, indices.data_ptr(), active._version
