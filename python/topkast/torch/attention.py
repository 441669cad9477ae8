"""`nn.MultiheadAttention` with sparse projections: it keeps its weights outside of `nn.Linear`, so it is swapped whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._topkast import Between
from .linear import SparseLinear
from .two_layers import dropped, two_layers


class SparseMultiheadAttention(nn.Module):
    """Query, key and value are one sparse layer [3·width, width], the output is another. Takes what `nn.MultiheadAttention` takes."""

    # Tells `nn.TransformerEncoder` that its fused path, which reads dense weights, is not for this one.
    _qkv_same_embed_dim = False
    in_proj_weight = None
    in_proj_bias = None

    def __init__(
        self, in_proj: SparseLinear, out_proj: SparseLinear, num_heads: int, dropout: float, batch_first: bool
    ) -> None:
        super().__init__()
        self.in_proj, self.out_proj = in_proj, out_proj
        self.num_heads, self.dropout, self.batch_first = num_heads, dropout, batch_first

    @property
    def embed_dim(self) -> int:
        return self.in_proj.in_features

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        batched = query.dim() == 3
        same = key is query and value is query
        dropout = self.dropout if self.training else 0.0
        if not batched:
            query, key, value = (one[None] if self.batch_first else one[:, None] for one in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        plain = same and key_padding_mask is None and (is_causal or attn_mask is None)
        if plain and not need_weights and dropout < 1.0:
            out = self._joined(query, is_causal, dropout)
            if out is not None:
                return out if batched else out[0] if self.batch_first else out[:, 0], None
        q, k, v = self._project(query, key, value, same)
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
            scores = scores if mask is None else scores + mask
            weights = F.dropout(scores.softmax(-1), dropout)
            heads = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            causal = is_causal and key_padding_mask is None
            heads = F.scaled_dot_product_attention(
                q, k, v, None if causal else mask, dropout, is_causal=causal
            )
        # [batch, heads, length, each] to the layout that came in.
        joined = heads.permute(0, 2, 1, 3) if self.batch_first else heads.permute(2, 0, 1, 3)
        out = self.out_proj(joined.flatten(-2))
        if not batched:
            out = out[0] if self.batch_first else out[:, 0]
            weights = None if weights is None else weights[0]
        return out, weights

    def _joined(self, x: Tensor, causal: bool, dropout: float) -> Tensor | None:
        """All of it as one operation, for what the kernels know: each sequence attends to itself."""
        x = x if self.batch_first else x.transpose(0, 1)
        batch, length, width = x.shape
        if not x.numel():
            return None
        between = lambda: Between.attention(self.num_heads, length, causal, dropped(dropout))
        y = two_layers(x.reshape(-1, width), self.in_proj, self.out_proj, between)
        if y is None:
            return None
        y = y.view(batch, length, width)
        return y if self.batch_first else y.transpose(0, 1)

    def _project(self, query: Tensor, key: Tensor, value: Tensor, same: bool) -> list[Tensor]:
        """Query, key and value as [batch, heads, length, each]."""
        if same:
            parts = self.in_proj(query).chunk(3, -1)
        else:
            # One product of all three would need one length; the weight's parts are not apart.
            width = self.embed_dim
            parts = tuple(
                self.in_proj(one)[..., at * width : (at + 1) * width]
                for at, one in enumerate((query, key, value))
            )
        order = (0, 2, 1, 3) if self.batch_first else (1, 2, 0, 3)
        return [part.unflatten(-1, (self.num_heads, -1)).permute(order) for part in parts]

    def _mask(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, q: Tensor, k: Tensor
    ) -> Tensor | None:
        """Both masks as one that is added to scores [batch, heads, queries, keys]."""
        mask = None
        if attn_mask is not None:
            mask = _added(attn_mask, q)
            if mask.dim() == 3:
                mask = mask.view(q.shape[0], self.num_heads, q.shape[2], k.shape[2])
        if key_padding_mask is not None:
            of_keys = _added(key_padding_mask, q)[:, None, None]
            mask = of_keys if mask is None else mask + of_keys
        return mask

    def densify(self) -> nn.MultiheadAttention:
        """The dense module that computes the same."""
        has_bias = self.in_proj.bias is not None
        with torch.device("meta"):
            dense = nn.MultiheadAttention(
                self.embed_dim, self.num_heads, self.dropout, has_bias, batch_first=self.batch_first
            )
        dense.in_proj_weight = nn.Parameter(self.in_proj.to_dense())
        dense.out_proj.weight = nn.Parameter(self.out_proj.to_dense())
        if self.in_proj.bias is not None and self.out_proj.bias is not None:
            dense.in_proj_bias = nn.Parameter(self.in_proj.bias.detach().clone())
            dense.out_proj.bias = nn.Parameter(self.out_proj.bias.detach().clone())
        return dense.train(self.training)


def _added(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))
    return mask.to(like.dtype)
