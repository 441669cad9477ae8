"""Networks as anyone would write them in PyTorch, into which dense exports load without a change."""

import json
import math
from pathlib import Path

import numpy
import torch
from torch import nn

from .reference import Tensors


def state(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """What the file says of itself, and its tensors. (The safetensors package does the latter, too.)"""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    about = json.loads(header.pop("__metadata__")["topkast-export"])
    tensors: Tensors = {}
    for name, tensor in header.items():
        first, end = tensor["data_offsets"]
        tensors[name] = numpy.frombuffer(raw[start + first : start + end], "<f4").reshape(tensor["shape"])
    return about, {name: torch.tensor(tensor) for name, tensor in tensors.items()}


def activation(model: dict) -> nn.Module:
    return nn.ReLU() if model["activation"] == "relu" else nn.GELU()


class Mlp(nn.Module):
    def __init__(self, about: dict) -> None:
        super().__init__()
        normalizer, plane = about["data"]["normalizer"], math.prod(about["data"]["input"])
        sizes = [plane * about["data"].get("channels", 1), *about["model"]["hidden"]]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:]))
        self.output = nn.Linear(sizes[-1], about["data"]["classes"])
        self.activation = activation(about["model"])
        self.mean, self.deviation = (torch.tensor(normalizer[key]).repeat_interleave(plane) for key in ["mean", "deviation"])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = (pixels / 255 - self.mean) / self.deviation
        for layer in self.hidden:
            x = self.activation(layer(x))
        return self.output(x)


class Block(nn.Module):
    """A residual block, with torchvision's names."""

    def __init__(self, inputs: int, inside: int, outputs: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        basic = [(inputs, inside, 3, stride), (inside, outputs, 3, 1)]
        layers = [(inputs, inside, 1, 1), (inside, inside, 3, stride), (inside, outputs, 1, 1)] if bottleneck else basic
        self.count = len(layers)
        for number, (before, after, size, step) in enumerate(layers, 1):
            setattr(self, f"conv{number}", nn.Conv2d(before, after, size, step, size // 2, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(after))
        if stride > 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.downsample(x) if hasattr(self, "downsample") else x
        for number in range(1, self.count + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            x = torch.relu(x + residual if number == self.count else x)
        return x


class ResNet(nn.Module):
    """A residual network, with torchvision's names."""

    def __init__(self, about: dict) -> None:
        super().__init__()
        model, data, normalizer = about["model"], about["data"], about["data"]["normalizer"]
        deep = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}
        stages, bottleneck = deep.get(model["depth"], [(model["depth"] - 2) // 6] * 3), model["depth"] in (50, 101, 152)
        width = model["width"] or (16 if len(stages) == 3 else 64)
        large = model["stem"] == "large" or (model["stem"] == "auto" and min(data["input"]) >= 64)
        window = (7, 2, 3) if large else (3, 1, 1)
        self.conv1, self.bn1 = nn.Conv2d(data.get("channels", 1), width, *window, bias=False), nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        inputs, self.stages = width, len(stages)
        for stage, count in enumerate(stages):
            inside = (width * model["widen"]) << stage
            outputs = (4 * width) << stage if bottleneck else inside
            blocks = []
            for number in range(count):
                blocks.append(Block(inputs, inside, outputs, 2 if stage and not number else 1, bottleneck))
                inputs = outputs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, data["classes"])
        self.mean, self.deviation = (torch.tensor(normalizer[key]).view(-1, 1, 1) for key in ["mean", "deviation"])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.bn1(self.conv1((pixels / 255 - self.mean) / self.deviation))))
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, model: dict) -> None:
        super().__init__()
        width = model["width"]
        self.heads, self.span = model["heads"], model["evaluation_memory"] + 1
        self.query, self.key, self.value, self.position, self.output = (nn.Linear(width, width) for _ in range(5))
        self.u, self.w = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, context: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
        split = lambda x: x.view(len(x), self.heads, -1).transpose(0, 1)
        q, k, v, r = self.query(x), split(self.key(context)), split(self.value(context)), split(self.position(distances))
        distance = torch.arange(len(context) - len(x), len(context))[:, None] - torch.arange(len(context))
        position = split(q + self.w) @ r.transpose(1, 2)
        position = position.gather(2, distance.clamp(min=0).expand(self.heads, -1, -1))
        scores = (split(q + self.u) @ k.transpose(1, 2) + position) / math.sqrt(v.shape[2])
        scores = scores.masked_fill((distance < 0) | (distance >= self.span), -math.inf)
        attended = (scores.softmax(2) @ v).transpose(0, 1).reshape(x.shape)
        return self.norm(x + self.output(attended))


class FeedForward(nn.Module):
    def __init__(self, model: dict) -> None:
        super().__init__()
        self.inner = nn.Linear(model["width"], model["feed_forward"])
        self.outer = nn.Linear(model["feed_forward"], model["width"])
        self.norm, self.activation = nn.LayerNorm(model["width"]), activation(model)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.outer(self.activation(self.inner(x))))


class Layer(nn.Module):
    def __init__(self, model: dict) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(model), FeedForward(model)


class Bias(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs))


class TransformerXl(nn.Module):
    """Of bytes, in one stream, with one embedding for all tokens."""

    def __init__(self, about: dict) -> None:
        super().__init__()
        model = about["model"]
        self.memory = model["evaluation_memory"]
        self.embedding, self.output = nn.Embedding(256, model["width"]), Bias(256)
        self.layers = nn.ModuleList(Layer(model) for _ in range(model["layers"]))

    def forward(self, tokens: torch.Tensor, memory: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        width = self.embedding.embedding_dim
        x, kept = math.sqrt(width) * self.embedding(tokens), []
        seen = torch.arange(len(memory[0]) + len(tokens), dtype=torch.float64)
        angles = seen[:, None] * 10000.0 ** (-2 * torch.arange(width // 2, dtype=torch.float64) / width)
        distances = torch.cat([angles.sin(), angles.cos()], 1).float()
        for layer, remembered in zip(self.layers, memory):
            context = torch.cat([remembered, x])
            kept.append(context[max(0, len(context) - self.memory) :])
            x = layer.feed_forward(layer.attention(x, context, distances))
        return x @ self.embedding.weight.T + self.output.bias, kept


def load(path: Path) -> nn.Module:
    """The network in a dense export; `strict`, so that every name and shape must be right."""
    about, tensors = state(path)
    network = {"mlp": Mlp, "resnet": ResNet, "transformer-xl": TransformerXl}[about["model"]["kind"]](about)
    network.load_state_dict(tensors, strict=True)
    return network.eval()
