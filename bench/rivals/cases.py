"""What is measured: the layers, the networks and the sparsities."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import ClassVar


class Sparse:
    """What has the two sparsities."""

    forward: float
    backward: float

    @property
    def sparsity(self) -> str:
        return percents(self.forward, self.backward)


@dataclass(frozen=True)
class LayerCase(Sparse):
    """One linear layer: `rows` outputs, `cols` inputs, `positions` samples."""

    kind: ClassVar[str] = "layer"

    rows: int
    cols: int
    positions: int
    forward: float
    backward: float

    @property
    def name(self) -> str:
        return f"{self.rows}×{self.cols}, batch {self.positions}"


@dataclass(frozen=True)
class StepCase(Sparse):
    """A training step of an MLP with these layer widths, inputs first and classes last."""

    kind: ClassVar[str] = "step"

    widths: tuple[int, ...]
    batch: int
    forward: float
    backward: float

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.widths))}, batch {self.batch}"


@dataclass(frozen=True)
class BlockCase(Sparse):
    """A training step of a language model of one Transformer-XL block: `streams` × `segment` tokens, no memory."""

    kind: ClassVar[str] = "block"

    width: int
    feed_forward: int
    heads: int
    streams: int
    segment: int
    forward: float
    backward: float

    @property
    def name(self) -> str:
        sizes = f"d = {self.width}, ff = {self.feed_forward}, {self.heads} heads"
        return f"{sizes}, {self.streams}×{self.segment} tokens"


Case = LayerCase | StepCase | BlockCase

SHAPES = [(1024, 1024, 128), (2048, 512, 1024), (4096, 1024, 256), (512, 2048, 1024)]
LAYER_SPARSITIES = [(0.9, 0.8), (0.9, 0.9), (0.95, 0.9), (0.95, 0.95), (0.98, 0.95), (0.98, 0.98)]
MLP, WIDE = (784, 1024, 1024, 10), (1024, 4096, 4096, 1024)
NETWORKS = [(MLP, 128), (MLP, 512), (WIDE, 256)]
STEP_SPARSITIES = [(0.8, 0.6), (0.9, 0.8), (0.95, 0.9), (0.98, 0.95)]
BLOCKS = [(512, 2048, 8, 8, 128)]
BLOCK_SPARSITIES = [(0.9, 0.8), (0.98, 0.95)]


def percents(forward: float, backward: float) -> str:
    """The two sparsities as tables show them: `90/80`."""
    return f"{forward * 100:.4g}/{backward * 100:.4g}"


def layer_cases(quick: bool) -> list[LayerCase]:
    """All layers at all sparsities; with `quick` two, to see that the script works."""
    shapes, sparsities = (SHAPES[:1], LAYER_SPARSITIES[:2]) if quick else (SHAPES, LAYER_SPARSITIES)
    return [LayerCase(*shape, *sparsity) for shape, sparsity in product(shapes, sparsities)]


def step_cases(quick: bool) -> list[StepCase]:
    """All networks at all sparsities; with `quick` one."""
    networks, sparsities = (NETWORKS[:1], STEP_SPARSITIES[1:2]) if quick else (NETWORKS, STEP_SPARSITIES)
    return [StepCase(*network, *sparsity) for network, sparsity in product(networks, sparsities)]


def block_cases(quick: bool) -> list[BlockCase]:
    """The block at all sparsities; with `quick` at one."""
    sparsities = BLOCK_SPARSITIES[:1] if quick else BLOCK_SPARSITIES
    return [BlockCase(*block, *sparsity) for block, sparsity in product(BLOCKS, sparsities)]


def as_rivals_see(case: Case) -> Case:
    """Without what the rivals do not know of: the backward set, and for the dense networks of steps sparsity itself."""
    return replace(case, backward=0.0) if isinstance(case, LayerCase) else replace(case, forward=0.0, backward=0.0)


def to_json(case: Case) -> dict[str, object]:
    return asdict(case)


def layer_from_json(fields: dict) -> LayerCase:
    return LayerCase(**fields)


def block_from_json(fields: dict) -> BlockCase:
    return BlockCase(**fields)


def step_from_json(fields: dict) -> StepCase:
    return StepCase(**{**fields, "widths": tuple(fields["widths"])})
