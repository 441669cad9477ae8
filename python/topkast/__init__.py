"""Top-KAST: sparse training with real sparse kernels. The PyTorch package is `topkast.torch`, imported when first used."""

from typing import TYPE_CHECKING, Any

from ._topkast import VERSION as __version__
from ._topkast import isa, release_memory

if TYPE_CHECKING:
    from . import torch

__all__ = ["__version__", "isa", "release_memory", "torch"]


def __getattr__(name: str) -> Any:
    if name == "torch":
        import importlib

        return importlib.import_module(".torch", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
