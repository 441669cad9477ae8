"""Topkast's sparse safetensors (docs/export.md): what `topkast export --format sparse` writes, and `topkast eval` and `predict` open."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .layer import SparseLayer
from .remap import sparse_layers

VERSION = 1
KEY = "topkast-export"
TYPES = {
    "F32": torch.float32,
    "I64": torch.int64,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
# Types of gaps, with the largest number, which stands for places skipped without an entry.
GAPS = {"U8": (torch.uint8, 0xFF), "U16": (torch.int16, 0xFFFF), "U32": (torch.int32, 0xFFFFFFFF)}


def save_sparse(model: nn.Module, path: str | os.PathLike[str], description: dict[str, Any] | None = None) -> None:
    """Writes what the model computes with: A of every sparse layer, and all dense tensors.

    `description` is what the Rust side has to know to run the network: `model`, `data_kind`, `data`, `step`, as docs/export.md has
    them. PyTorch needs none. The file is written beside `path` and renamed over it.
    """
    layers = sparse_layers(model)
    own = {f"{name}.{part}".lstrip(".") for name in layers for part in ("values", "indices", "active", "_extra_state")}
    tensors: dict[str, tuple[str, Tensor]] = {}
    shapes = {}
    for name, tensor in model.state_dict().items():
        if name not in own:
            kind, plain = _plain(name, tensor)
            tensors[name] = kind, plain
    for name, layer in layers.items():
        weight = f"{name}.weight".lstrip(".")
        active = int(layer.active)
        tensors[f"{weight}.values"] = "F32", layer.values.detach()[:active].float().cpu().contiguous()
        tensors[f"{weight}.gaps"] = gaps_of(layer.indices[:active].long().cpu())
        shapes[weight] = list(layer.shape)
    about = {"format": "sparse", "version": VERSION, "step": 0, **(description or {}), "sparse": shapes}
    _write(Path(path), tensors, {KEY: json.dumps(about)})


def load_sparse(model: nn.Module, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads such a file into a model of the same names, and returns its description.

    A sparse layer gets B = A, and what is outside is not known: TopKAST needs C, all others can go on from here. A dense layer gets
    the weight written out. Tensors must be the model's, all of them, but for `num_batches_tracked`.
    """
    about, raw = _read(Path(path))
    layers = sparse_layers(model)
    weights = [f"{name}.weight".lstrip(".") for name in layers]
    missing = [one for one in weights if f"{one}.values" not in raw or f"{one}.gaps" not in raw]
    state = {}
    shapes: dict[str, list[int]] = about["sparse"]
    written_out = {}
    dense_tensors = model.state_dict()
    for weight, shape in shapes.items():
        if weight + ".values" not in raw or weight + ".gaps" not in raw:
            raise ValueError(f"{path}: `{weight}` lacks its values or its gaps")
        values, gaps = raw.pop(weight + ".values"), raw.pop(weight + ".gaps")
        total = shape[0] * shape[1]
        indices = indices_of(gaps, total, f"{path}: `{weight}`")
        if values.dtype != torch.float32 or indices.shape != values.shape:
            raise ValueError(f"{path}: `{weight}` has {values.numel()} values of {indices.numel()} entries")
        sparse = layers.get(weight.removesuffix("weight").removesuffix("."))
        if sparse is None:
            given = dense_tensors.get(weight)
            if given is None or given.numel() != total or given.shape[0] != shape[0]:
                raise ValueError(f"{path}: `{weight}` is of shape {shape}, the model has {None if given is None else list(given.shape)}")
            dense = torch.zeros(total)
            dense[indices] = values
            written_out[weight] = dense.view(given.shape)
        elif total != sparse.total or shape[0] != sparse.shape[0]:
            raise ValueError(f"{path}: `{weight}` is of shape {shape}, the layer's of {sparse.shape}")
        else:
            state[weight] = sparse, indices, values
    if missing:
        raise ValueError(f"{path} has no sparse weight {', '.join(missing)}")
    own = {f"{name}.{part}".lstrip(".") for name in layers for part in ("values", "indices", "active", "_extra_state")}
    result = model.load_state_dict({**raw, **written_out}, strict=False)
    lacking = [name for name in result.missing_keys if name not in own and not name.endswith("num_batches_tracked")]
    if lacking or result.unexpected_keys:
        raise ValueError(f"{path}: missing {lacking}, unexpected {result.unexpected_keys}")
    for layer, indices, values in state.values():
        layer.set_entries(indices, values)
    return about


def gaps_of(indices: Tensor) -> tuple[str, Tensor]:
    """Ascending indices as the places skipped before each, in the type that takes the fewest bytes."""
    skipped = torch.diff(indices, prepend=indices.new_tensor([-1])) - 1
    best: tuple[int, str, Tensor] | None = None
    for kind, (dtype, most) in GAPS.items():
        length = indices.numel() + int((skipped // most).sum())
        size = length * torch.empty(0, dtype=dtype).element_size()
        if best is None or size < best[0]:
            out = torch.full((length,), most)
            out[torch.cumsum(skipped // most + 1, 0) - 1] = skipped % most
            best = size, kind, out.to(dtype)
    assert best is not None
    return best[1], best[2]


def indices_of(gaps: Tensor, total: int, what: str) -> Tensor:
    """The way back."""
    most = next((most for dtype, most in GAPS.values() if dtype == gaps.dtype), None)
    if most is None:
        raise ValueError(f"{what}: gaps must be U8, U16 or U32")
    skipped = gaps.long() & most
    entry = skipped < most
    indices = (torch.cumsum(skipped + entry, 0) - 1)[entry]
    if indices.numel() and int(indices[-1]) >= total:
        raise ValueError(f"{what}: an entry is at {int(indices[-1])}, outside of {total}")
    return indices


def _plain(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.is_floating_point():
        tensor = tensor.float()
    kind = next((kind for kind, dtype in TYPES.items() if dtype == tensor.dtype), None)
    if kind is None:
        raise ValueError(f"`{name}` is of type {tensor.dtype}, which such files do not hold")
    return kind, tensor


def _write(path: Path, tensors: dict[str, tuple[str, Tensor]], metadata: dict[str, str]) -> None:
    # Widest elements first keeps every tensor aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name][1].element_size(), name))
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in order:
        kind, tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    beside = path.with_name(path.name + ".part")
    with open(beside, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in order:
            file.write(tensors[name][1].numpy().tobytes())
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    raw = path.read_bytes()
    try:
        start = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:start])
        about = json.loads(header.pop("__metadata__")[KEY])
        if about["format"] != "sparse" or about["version"] != VERSION:
            raise ValueError(f"{path} is of version {about['version']} of format {about['format']}; this is for {VERSION} of sparse")
        for weight, shape in about["sparse"].items():
            if not (isinstance(shape, list) and len(shape) == 2 and all(type(side) is int and side >= 0 for side in shape)):
                raise ValueError(f"{path}: `{weight}` has no shape of outputs and inputs")
        return about, {name: _tensor(raw, start, info) for name, info in header.items()}
    except (KeyError, TypeError, AttributeError, IndexError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a sparse export of topkast: {error!r}") from error


def _tensor(raw: bytes, start: int, info: dict[str, Any]) -> Tensor:
    first, last = info["data_offsets"]
    dtype = TYPES.get(info["dtype"]) or GAPS[info["dtype"]][0]
    shape = [int(side) for side in info["shape"]]
    size = torch.empty(0, dtype=dtype).element_size()
    for side in shape:
        size *= side
    if min(shape, default=0) < 0 or not 0 <= first <= last <= len(raw) - start or last - first != size:
        raise IndexError(f"a tensor of shape {shape} at {first} to {last}")
    if first == last:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(raw[start + first : start + last]), dtype=dtype).view(shape)


__all__ = ["load_sparse", "save_sparse"]
