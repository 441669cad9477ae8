"""Sparse training for PyTorch models.

    model = topkast.torch.sparsify(model, forward_sparsity=0.9, backward_sparsity=0.8, skip=["head"])
    optimizer = torch.optim.AdamW(model.parameters())
    topology = topkast.torch.TopKAST(model, optimizer, refresh_every=100, penalty=1e-4)
    ...
    (loss + topology.penalty()).backward(); optimizer.step(); topology.step()
"""

from .attention import SparseMultiheadAttention
from .conv import SparseConv2d
from .drop_and_grow import SET, Pruning, RigL
from .files import load_sparse, save_sparse
from .layer import SparseLayer
from .linear import SparseLinear
from .remap import sparse_layers
from .sparsify import densify, sparsify
from .table import summary
from .topology import Static, TopKAST, Topology

__all__ = [
    "SET",
    "Pruning",
    "RigL",
    "SparseConv2d",
    "SparseLayer",
    "SparseLinear",
    "SparseMultiheadAttention",
    "Static",
    "TopKAST",
    "Topology",
    "densify",
    "load_sparse",
    "save_sparse",
    "sparse_layers",
    "sparsify",
    "summary",
]
