"""What a model's layers are, as text."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .layer import SparseLayer


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as they must be."""
    lines = [("layer", "shape", "|A|", "|B|", "sparsity: forward / backward"), *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    right = (False, True, True, True, False)
    aligned = (
        "  ".join(cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in zip(line, widths, right))
        for line in lines
    )
    return "\n".join(line.rstrip() for line in aligned)


def summary(model: nn.Module) -> str:
    """The sparse layers of a model, with the bytes of values, sets and C."""
    rows = []
    for name, layer in model.named_modules():
        if isinstance(layer, SparseLayer):
            active, backward = int(layer.active), layer.values.numel()
            structure, reservoir, _ = layer.extension().nbytes
            own = backward * layer.values.element_size() + layer.indices.numel() * layer.indices.element_size()
            share = f"{1 - active / layer.total:.1%} / {1 - backward / layer.total:.1%}"
            share += f", {own + structure:,} bytes + {reservoir:,} of C; dense {4 * layer.total:,}"
            rows.append((name, "x".join(map(str, layer.shape)), f"{active:,}", f"{backward:,}", share))
    return table(rows)
