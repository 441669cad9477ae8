"""The extension. `Capsule` is what `torch.utils.dlpack.to_dlpack` makes of a contiguous tensor on the CPU, unused."""

from typing import Any, final

Capsule = Any
Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]
"""Size, stride, padding, dilation."""

VERSION: str

def isa() -> str: ...
def release_memory() -> int: ...
def name_matches(pattern: str, name: str) -> bool: ...
def counts(
    forward: float, backward: float, shapes: list[tuple[int, int]], distribution: str
) -> list[tuple[int, int]]: ...
def drop_fraction(alpha: float, every: int, end: int, step: int) -> float | None: ...
def pruned(every: int, end: int, step: int, total: int, last: int) -> int | None: ...
@final
class Activation:
    @property
    def nbytes(self) -> int: ...

@final
class Between:
    @staticmethod
    def activation(name: str, dropped: tuple[int, float] | None = None) -> Between: ...
    @staticmethod
    def attention(
        heads: int, length: int, causal: bool, dropped: tuple[int, float] | None = None
    ) -> Between: ...

@final
class Hidden:
    @property
    def nbytes(self) -> int: ...

@final
class Weight:
    @staticmethod
    def fresh(
        rows: int,
        width: int,
        active: int,
        backward: int,
        method: str,
        seed: int,
        deviation: float,
        distribution: str,
    ) -> Weight: ...
    @staticmethod
    def from_theta(theta: Capsule, active: int, backward: int, method: str, seed: int) -> Weight: ...
    @staticmethod
    def restored(
        rows: int,
        width: int,
        active: int,
        method: str,
        seed: int,
        indices: Capsule,
        reservoir: list[Capsule] | None = None,
        initial: tuple[float, str] | None = None,
    ) -> Weight: ...
    def take_values(self, to: Capsule) -> None: ...
    def indices(self, to: Capsule) -> None: ...
    def refresh(self, values: Capsule, step: int) -> bytearray | None: ...
    def set(self, values: Capsule, fraction: float, step: int) -> bytearray | None: ...
    def remaining(self, values: Capsule, fraction: float) -> bytearray: ...
    def rigl(self, values: Capsule, fraction: float, grown: Capsule) -> bytearray | None: ...
    def prune(self, values: Capsule, keep: int) -> bytearray | None: ...
    def reservoir(self) -> dict[str, bytearray] | None: ...
    def reserved(self, index: int) -> float: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def active(self) -> int: ...
    @property
    def backward(self) -> int: ...
    @property
    def dormant(self) -> int: ...
    @property
    def nbytes(self) -> list[int]: ...

def linear_forward(
    weight: Weight,
    values: Capsule,
    x: Capsule,
    bias: Capsule | None,
    y: Capsule,
    threads: int,
) -> None: ...
def linear_backward(
    weight: Weight,
    values: Capsule,
    x: Capsule,
    dy: Capsule,
    dx: Capsule | None,
    dvalues: Capsule | None,
    dbias: Capsule | None,
    threads: int,
) -> None: ...
def two_layers_forward(
    first: Weight,
    second: Weight,
    values: tuple[Capsule, Capsule],
    biases: tuple[Capsule | None, Capsule | None],
    between: Between,
    x: Capsule,
    y: Capsule,
    keep: bool,
    threads: int,
) -> Hidden | None: ...
def two_layers_backward(
    first: Weight,
    second: Weight,
    values: tuple[Capsule, Capsule],
    hidden: Hidden,
    x: Capsule,
    dy: Capsule,
    dx: Capsule | None,
    dvalues: list[Capsule | None],
    dbiases: list[Capsule | None],
    threads: int,
) -> None: ...
def convolution_output(numbers: Window, height: int, width: int) -> list[int]: ...
def convolution_forward(
    weight: Weight,
    numbers: Window,
    values: Capsule,
    x: Capsule,
    bias: Capsule | None,
    y: Capsule,
    keep: bool,
    threads: int,
) -> Activation | None: ...
def convolution_backward(
    weight: Weight,
    numbers: Window,
    values: Capsule,
    x: Activation | Capsule,
    size: tuple[int, int, int, int],
    dy: Capsule,
    dx: Capsule | None,
    dvalues: Capsule | None,
    dbias: Capsule | None,
    threads: int,
) -> None: ...
