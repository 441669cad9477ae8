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


@dataclass(frozen=True)
class ConvolutionCase(Sparse):
    """One convolution with stride 1 whose padding leaves maps of `size` as large as they are."""

    kind: ClassVar[str] = "convolution"

    outputs: int
    inputs: int
    kernel: int
    size: int
    images: int
    forward: float
    backward: float

    @property
    def name(self) -> str:
        return f"{self.kernel}×{self.kernel} {self.inputs}→{self.outputs}, {self.images} images of {self.size}×{self.size}"

    @property
    def padding(self) -> int:
        return (self.kernel - 1) // 2


@dataclass(frozen=True)
class ResNetCase(Sparse):
    """A training step of a residual network on `batch` images."""

    kind: ClassVar[str] = "resnet"

    depth: int
    size: int
    batch: int
    forward: float
    backward: float

    @property
    def name(self) -> str:
        return f"ResNet-{self.depth}, {self.batch} images of {self.size}×{self.size}"


Case = LayerCase | StepCase | BlockCase | ConvolutionCase | ResNetCase

SHAPES = [(1024, 1024, 128), (2048, 512, 1024), (4096, 1024, 256), (512, 2048, 1024)]
LAYER_SPARSITIES = [(0.9, 0.8), (0.9, 0.9), (0.95, 0.9), (0.95, 0.95), (0.98, 0.95), (0.98, 0.98)]
MLP, WIDE = (784, 1024, 1024, 10), (1024, 4096, 4096, 1024)
NETWORKS = [(MLP, 128), (MLP, 512), (WIDE, 256)]
STEP_SPARSITIES = [(0.8, 0.6), (0.9, 0.8), (0.95, 0.9), (0.98, 0.95)]
BLOCKS = [(512, 2048, 8, 8, 128)]
BLOCK_SPARSITIES = [(0.9, 0.8), (0.98, 0.95)]
CONVOLUTIONS = [(64, 64, 3, 32, 32), (64, 256, 1, 56, 16), (256, 64, 1, 56, 16), (256, 256, 3, 14, 32), (512, 512, 3, 7, 32)]
CONVOLUTION_SPARSITIES = [(0.9, 0.8), (0.9, 0.9), (0.95, 0.95), (0.98, 0.98)]
RESNETS = [(50, 224, 16), (20, 32, 128)]
RESNET_SPARSITIES = [(0.9, 0.8), (0.98, 0.95)]


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


def convolution_cases(quick: bool) -> list[ConvolutionCase]:
    """All convolutions at all sparsities; with `quick` one."""
    shapes, sparsities = (CONVOLUTIONS[:1], CONVOLUTION_SPARSITIES[:1]) if quick else (CONVOLUTIONS, CONVOLUTION_SPARSITIES)
    return [ConvolutionCase(*shape, *sparsity) for shape, sparsity in product(shapes, sparsities)]


def resnet_cases(quick: bool) -> list[ResNetCase]:
    """All networks at all sparsities; with `quick` one."""
    networks, sparsities = (RESNETS[1:], RESNET_SPARSITIES[:1]) if quick else (RESNETS, RESNET_SPARSITIES)
    return [ResNetCase(*network, *sparsity) for network, sparsity in product(networks, sparsities)]


def as_rivals_see(case: Case) -> Case:
    """Without what the rivals do not know of: the backward set, and for the dense networks of steps sparsity itself."""
    one_layer = isinstance(case, LayerCase | ConvolutionCase)
    return replace(case, backward=0.0) if one_layer else replace(case, forward=0.0, backward=0.0)


def to_json(case: Case) -> dict[str, object]:
    return asdict(case)


def layer_from_json(fields: dict) -> LayerCase:
    return LayerCase(**fields)


def block_from_json(fields: dict) -> BlockCase:
    return BlockCase(**fields)


def convolution_from_json(fields: dict) -> ConvolutionCase:
    return ConvolutionCase(**fields)


def resnet_from_json(fields: dict) -> ResNetCase:
    return ResNetCase(**fields)


def step_from_json(fields: dict) -> StepCase:
    return StepCase(**{**fields, "widths": tuple(fields["widths"])})
