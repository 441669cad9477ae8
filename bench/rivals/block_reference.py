"""The same network as plainly as can be, in float64: scores of all distances looked up by index, norms, Adam and clipping written
out."""

from __future__ import annotations

import math

import torch

from .block_data import CHECKED_STEPS, CLIP_NORM, EPSILON, LEARNING_RATE, BlockData
from .cases import BlockCase

Parameters = dict[str, torch.Tensor]
BETAS = (0.9, 0.999)


def losses(data: BlockData) -> list[float]:
    """The losses of the first steps, each before its update."""
    parameters = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in data.parameters.items()}
    moments = {name: [torch.zeros_like(value), torch.zeros_like(value)] for name, value in parameters.items()}
    found = []
    for step in range(1, CHECKED_STEPS + 1):
        mean = 0.0
        # Stream by stream, as every worker keeps the memory that it has had.
        for stream in torch.tensor(data.tokens[step - 1]).split(1):
            loss = loss_of(data.case, parameters, stream) / data.case.streams
            loss.backward()
            mean += loss.item()
        with torch.no_grad():
            norm = math.sqrt(sum(float((value.grad**2).sum()) for value in parameters.values()))
            for name, value in parameters.items():
                gradient = value.grad * min(1.0, CLIP_NORM / norm)
                value.grad = None
                first, second = moments[name]
                first += (1 - BETAS[0]) * (gradient - first)
                second += (1 - BETAS[1]) * (gradient**2 - second)
                corrected = [first / (1 - BETAS[0] ** step), second / (1 - BETAS[1] ** step)]
                value -= LEARNING_RATE * corrected[0] / (corrected[1].sqrt() + EPSILON)
        found.append(mean)
    return found


def loss_of(case: BlockCase, p: Parameters, tokens: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy of the next tokens of some streams [streams × segment + 1]."""
    length, head = case.segment, case.width // case.heads

    def affine(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ p[f"{name}.weight"].T + p[f"{name}_bias"]

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        deviation = ((centred**2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return centred / deviation * p[f"{name}.norm.gain"] + p[f"{name}.norm.bias"]

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (case.heads, head))

    x = math.sqrt(case.width) * p["embedding"][tokens[:, :-1]]
    q, k, v = (heads(part) for part in affine("qkv", x).chunk(3, dim=-1))
    times = torch.arange(length)
    distance = times[:, None] - times[None, :]
    r = heads(affine("position", sinusoids(case)))
    content = torch.einsum("sihd,sjhd->shij", q + heads(p["u"]), k)
    by_distance = torch.einsum("sihd,nhd->shin", q + heads(p["w"]), r)
    position = by_distance.gather(-1, distance.clamp(min=0).expand_as(by_distance))
    scores = ((content + position) / math.sqrt(head)).masked_fill(distance < 0, -math.inf)
    attended = torch.einsum("shij,sjhd->sihd", scores.softmax(-1), v).flatten(2)
    x = norm("attention", x + affine("output", attended))
    inner = affine("inner", x)
    hidden = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    x = norm("feed_forward", x + affine("outer", hidden))
    chances = (x @ p["embedding"].T + p["output.bias"]).log_softmax(-1)
    return -chances.gather(-1, tokens[:, 1:, None]).mean()


def sinusoids(case: BlockCase) -> torch.Tensor:
    """[distance × width] from distance 0 on: sines of all frequencies, then cosines."""
    frequencies = 10000.0 ** (-torch.arange(0, case.width, 2, dtype=torch.float64) / case.width)
    angles = torch.arange(case.segment, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
