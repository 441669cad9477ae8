"""What is timed: layers of three libraries and PyTorch's own, and whole steps of models, dense and sparse."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Step = Callable[[], Any]


def layer(library: str, rows: int, width: int, positions: int, forward: float, backward: float) -> Step:
    """Forward and backward of a layer without bias, as a user has it: positions × features in and out, autograd included."""
    torch.manual_seed(0)
    x = torch.randn(positions, width, requires_grad=True)
    dy = torch.randn(positions, rows)
    module = _layer(library, rows, width, forward, backward)
    _check(library, module, x, dy)

    def step() -> None:
        x.grad = None
        for parameter in module.parameters():
            parameter.grad = None
        module(x).backward(dy)

    return step


def _layer(library: str, rows: int, width: int, forward: float, backward: float) -> nn.Module:
    if library == "topkast":
        from topkast.torch import SparseLinear

        return SparseLinear(width, rows, bias=False, forward_sparsity=forward, backward_sparsity=backward)
    if library == "sparselab":
        import sparselab
        from sparselab.ops import _clear_transpose_cache

        # Its cache goes by the identity of weights, which a new one may inherit from the last.
        _clear_transpose_cache()
        return sparselab.SparseLinear(width, rows, bias=False, sparsity=forward)
    dense = nn.Linear(width, rows, bias=False)
    if library == "sparseprop":
        from sparseprop.modules import SparseLinear

        with torch.no_grad():
            dense.weight.mul_(torch.rand(rows, width) >= forward)
        return SparseLinear.from_dense(dense)
    return dense


def _check(library: str, module: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> None:
    """The layer's output and input gradient must be those of its weight written out."""
    if library == "topkast":
        weight = module.to_dense()
    elif library == "sparselab":
        weight = torch.as_tensor(module._csr.to_dense())
    else:
        weight = (module.to_dense() if library == "sparseprop" else module).weight.detach()
    y = module(x)
    y.backward(dy)
    torch.testing.assert_close(y.detach(), x.detach() @ weight.T, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(x.grad, dy @ weight, rtol=1e-3, atol=1e-2)


class LanguageModel(nn.Module):
    """One Transformer block of width 512 over bytes; the output is the embedding's table."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, 512)
        block = nn.TransformerEncoderLayer(512, 8, 2048, dropout=0.0, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(block, 1, enable_nested_tensor=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        hidden = self.encoder(self.embedding(tokens), mask=mask, is_causal=True)
        return hidden @ self.embedding.weight.T


def block(forward: float, backward: float) -> tuple[Step, Callable[[], dict[str, int]]]:
    """Training steps on 8 × 128 tokens: forward, cross-entropy, backward, clipping, Adam; sparse if there is a sparsity. And what the
    block's linear weights, their gradients, Adam's moments and the sets take, in bytes."""
    torch.manual_seed(0)
    model = LanguageModel()
    topology = None
    if forward:
        from topkast.torch import TopKAST, sparsify

        sparsify(model, forward, backward, reservoir="implicit", verbose=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    if forward:
        topology = TopKAST(model, optimizer, refresh_every=100, penalty=1e-4)
    tokens = torch.randint(256, (8, 129))

    def step() -> None:
        optimizer.zero_grad()
        logits = model(tokens[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        (loss if topology is None else loss + topology.penalty()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        if topology is not None:
            topology.step()

    def sizes() -> dict[str, int]:
        training = structure = 0
        for name, parameter in model.encoder.named_parameters():
            if parameter.dim() == 2 or name.endswith("values"):
                tensors = [parameter, parameter.grad, *optimizer.state[parameter].values()]
                training += sum(one.numel() * one.element_size() for one in tensors if one.dim())
        if topology is not None:
            for one in topology.layers.values():
                structure += sum(one.extension().nbytes[:2]) + one.indices.numel() * one.indices.element_size()
        with open("/proc/self/status") as status:
            peak = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
        return {"training": training, "structure": structure, "peak": peak}

    return step, sizes


def environment(threads: int, passive: bool) -> dict[str, str]:
    """Threads, an allocator that keeps its memory (all allocate their outputs in every call), and how OpenMP's threads wait."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
        "MALLOC_TOP_PAD_": str(1 << 26),
        "PYTHONWARNINGS": "ignore",
        **({"OMP_WAIT_POLICY": "passive"} if passive else {}),
    }
