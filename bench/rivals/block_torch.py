"""A training step of a dense one-layer Transformer-XL in PyTorch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from . import block_parts, block_reference
from .block_data import CHECKED_STEPS, CLIP_NORM, EPSILON, LEARNING_RATE, BlockData
from .timing import Parts, timed

Span = Callable[[str], AbstractContextManager]
"""Names a part of the step for the profiler; otherwise does nothing."""


class TrainingStep:
    """Forward, cross-entropy, backward, clipping and Adam on batches that lie ready in memory. The options: PyTorch's own
    attention function, which takes the relative scores as a mask, or the products written out; the implementations of Adam
    and clipping; compiling the network with its loss; flushing denormal numbers."""

    def __init__(
        self,
        data: BlockData,
        *,
        sdpa: bool = False,
        foreach: bool = False,
        fused: bool = False,
        compile: bool = False,
        flush: bool = False,
    ) -> None:
        torch.set_flush_denormal(flush)
        self.case, self.sdpa, self.foreach, self.compiled = data.case, sdpa, foreach or fused, compile
        self.p = {name: torch.from_numpy(value).clone().requires_grad_() for name, value in data.parameters.items()}
        self.optimizer = torch.optim.Adam(self.p.values(), lr=LEARNING_RATE, eps=EPSILON, foreach=foreach, fused=fused)
        # The largest distance first, as the shift of the scores wants it.
        self.distances = block_reference.sinusoids(data.case).flip(0).float()
        self.future = torch.ones(data.case.segment, data.case.segment, dtype=torch.bool).triu(1)
        self.span: Span = nullcontext
        self.loss = torch.compile(self._loss) if compile else self._loss
        tokens = torch.from_numpy(data.tokens)
        self.batches = [(batch[:, :-1].contiguous(), batch[:, 1:].flatten()) for batch in tokens]
        self.next = itertools.cycle(self.batches)

    def step(self) -> Parts:
        inputs, targets = next(self.next)
        return {"step": timed(lambda: self._train(inputs, targets))}

    def first_losses(self) -> list[float]:
        """The losses of the first steps."""
        return [self._train(*batch) for batch in self.batches[:CHECKED_STEPS]]

    def parts(self) -> Parts:
        """What of a step's milliseconds went to which part; nothing is known of a compiled network."""
        if self.compiled:
            return {}
        self.span = torch.profiler.record_function
        try:
            return block_parts.measure(lambda: self._train(*next(self.next)))
        finally:
            self.span = nullcontext

    def _train(self, inputs: Tensor, targets: Tensor) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(inputs, targets)
        loss.backward()
        with self.span(block_parts.UPDATE):
            torch.nn.utils.clip_grad_norm_(self.p.values(), CLIP_NORM, foreach=self.foreach)
            self.optimizer.step()
        return loss.item()

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        p = self.p
        x = F.embedding(inputs, p["embedding"]) * math.sqrt(self.case.width)
        x = self._norm("attention", x + self._attention(x))
        hidden = F.gelu(self._linear("inner", x))
        x = self._norm("feed_forward", x + self._linear("outer", hidden))
        return F.cross_entropy(F.linear(x, p["embedding"], p["output.bias"]).flatten(0, 1), targets)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        with self.span(block_parts.LINEAR):
            return F.linear(x, self.p[f"{name}.weight"], self.p[f"{name}_bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.case.width,), self.p[f"{name}.norm.gain"], self.p[f"{name}.norm.bias"])

    def _attention(self, x: Tensor) -> Tensor:
        qkv, r = self._linear("qkv", x), self._linear("position", self.distances)
        with self.span(block_parts.ATTENTION):
            attended = self._attend(qkv, r)
        return self._linear("output", attended)

    def _attend(self, qkv: Tensor, r: Tensor) -> Tensor:
        """[streams × segment × width] from queries, keys and values side by side, and from distances."""
        heads = (self.case.heads, self.case.width // self.case.heads)
        q, k, v = qkv.unflatten(-1, (3, *heads)).unbind(2)
        u, w = self.p["u"].view(heads), self.p["w"].view(heads)
        scale = 1 / math.sqrt(heads[1])
        content, position = (q + u) * scale, (q + w) * scale
        mask = self._by_key(position, r.unflatten(-1, heads)).masked_fill(self.future, -math.inf)
        content, k, v = (x.transpose(1, 2) for x in (content, k, v))
        if self.sdpa:
            attended = F.scaled_dot_product_attention(content, k, v, attn_mask=mask, scale=1.0)
        else:
            content, k, v = (x.flatten(0, 1) for x in (content, k, v))
            scores = torch.baddbmm(mask.flatten(0, 1), content, k.transpose(1, 2))
            attended = torch.bmm(scores.softmax(-1), v).unflatten(0, mask.shape[:2])
        return attended.transpose(1, 2).flatten(2)

    def _by_key(self, position: Tensor, r: Tensor) -> Tensor:
        """The relative scores [streams × heads × query × key]: one product for each head, of all queries with all distances, the
        largest first, where row i then moves left by T − 1 − i. A distance of zeros before the others makes that a view of what
        the product wrote. What lies after a query is to be masked."""
        streams, length = position.shape[:2]
        r = F.pad(r, (0, 0, 0, 0, 1, 0)).permute(1, 2, 0)
        scores = torch.bmm(position.permute(2, 0, 1, 3).flatten(1, 2), r)
        moved = scores.view(-1, streams, length + 1, length)[:, :, 1:]
        return moved.transpose(0, 1)
