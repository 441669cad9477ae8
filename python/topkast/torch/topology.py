"""What moves A and B while a model trains: one object beside the optimizer, whose `step()` follows the optimizer's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .layer import SparseLayer
from .penalty import Penalty
from .ranks import check_same
from .remap import follow, sparse_layers
from .sets import capsule


class Topology:
    """What all have in common. `step()` is called once after every `optimizer.step()`.

    - `model`: its sparse layers are chosen for, as `sparsify` made them.
    - `optimizer`: one or several, or None; the state of every entry moves along with it. Make it after `sparsify`.
    - `averages`: copies of the model, such as EMAs, that get the same sets.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Iterable[Optimizer] | None = None,
        *,
        averages: Sequence[nn.Module] = (),
    ) -> None:
        self.layers = sparse_layers(model)
        if not self.layers:
            raise ValueError("the model has no sparse layer: call sparsify first")
        self.optimizers = [] if optimizer is None else [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
        self.averages = [self._matching(sparse_layers(other)) for other in averages]
        self.steps = 0
        self._check_optimizers()
        check_same(self.layers)

    def _matching(self, others: dict[str, SparseLayer]) -> list[SparseLayer]:
        """A copy's layers in the order of ours: names may have a prefix."""
        shapes = [layer.shape for layer in self.layers.values()]
        if [layer.shape for layer in others.values()] != shapes:
            raise ValueError("an average must be a copy of the model, made after sparsify")
        return list(others.values())

    def _check_optimizers(self) -> None:
        if not self.optimizers:
            return
        known = {
            id(parameter)
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        missing = [name for name, layer in self.layers.items() if id(layer.values) not in known]
        if missing:
            raise ValueError(f"the optimizer does not train {', '.join(missing)}: make it after sparsify")

    def step(self) -> None:
        """Counts a step of the optimizer, and changes the sets when it is time."""
        self.steps += 1
        self._update()

    def _update(self) -> None:
        raise NotImplementedError

    def _follow(self, name: str, raw: bytearray | None) -> bool:
        layer = self.layers[name]
        place = list(self.layers).index(name)
        return follow(layer, raw, self.optimizers, [copies[place] for copies in self.averages])

    def _followed(self, changed: bool) -> None:
        if changed:
            check_same(self.layers)

    def state_dict(self) -> dict[str, Any]:
        """Where it is; sets and values are the model's, moments the optimizer's."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `state_dict` told."""
        self.steps = int(state["steps"])

    def density(self) -> float:
        """The share of all sparse weights that is active."""
        active = sum(int(layer.active) for layer in self.layers.values())
        return active / sum(layer.total for layer in self.layers.values())


class Static(Topology):
    """A and B stay as they are."""

    def _update(self) -> None:
        pass


class TopKAST(Topology):
    """Every `refresh_every` steps A becomes the largest entries of θ again, and B\\A, by `explore`: "magnitude" the next largest,
    "random" others drawn at random, "mixed" half and half.

    `penalty()`, to be added to the loss, pulls the values of B towards zero, so that C's can become larger than they: with
    coefficient `penalty` on A and `penalty` / D on B\\A, D being the layer's forward density.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Iterable[Optimizer] | None = None,
        *,
        refresh_every: int = 100,
        penalty: float = 0.0,
        penalty_kind: str = "l2",
        explore: str = "magnitude",
        averages: Sequence[nn.Module] = (),
    ) -> None:
        if refresh_every < 1:
            raise ValueError(f"refresh_every must be at least 1, not {refresh_every}")
        if penalty_kind not in ("l1", "l2"):
            raise ValueError(f'penalty_kind must be "l1" or "l2", not {penalty_kind!r}')
        if explore not in ("magnitude", "random", "mixed"):
            raise ValueError(f'explore must be "magnitude", "random" or "mixed", not {explore!r}')
        if not penalty >= 0:
            raise ValueError(f"penalty must be at least 0, not {penalty}")
        super().__init__(model, optimizer, averages=averages)
        self.refresh_every, self.coefficient, self.kind, self.explore = refresh_every, penalty, penalty_kind, explore
        for name, layer in self.layers.items():
            _for_method(name, layer, explore)

    def penalty(self) -> Tensor:
        """λ·ω(θ) over A and λ/D·ω(θ) over B\\A of all sparse layers, ω(θ) being θ²/2 or |θ|."""
        first = next(iter(self.layers.values()))
        total = first.values.new_zeros(())
        if self.coefficient == 0:
            return total
        for layer in self.layers.values():
            active = int(layer.active)
            total = total + Penalty.apply(layer.values, active, active / layer.total, self.kind == "l1")
        return self.coefficient * total

    def _update(self) -> None:
        if self.steps % self.refresh_every == 0:
            self.refresh()

    def refresh(self) -> bool:
        """Chooses A and B again now; returns whether anything changed."""
        changed = False
        for name, layer in self.layers.items():
            weight = layer.extension(self.explore)
            changed |= self._follow(name, weight.refresh(capsule(layer.cpu_values()), self.steps))
        self._followed(changed)
        return changed


def _for_method(name: str, layer: SparseLayer, method: str) -> None:
    """Has the layer's sets change by this method from now on."""
    if method in ("set", "rigl", "pruning") and layer.values.numel() != int(layer.active):
        raise ValueError(f"{name}: this method has B = A; leave backward_sparsity out in sparsify")
    try:
        layer.extension(method)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: {error}") from error
