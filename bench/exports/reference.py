"""Networks in numpy and double precision, from what the documented reader gives."""

import itertools
import math

import numpy

Tensors = dict[str, numpy.ndarray]


def activation(kind: str, x: numpy.ndarray) -> numpy.ndarray:
    if kind == "relu":
        return numpy.maximum(x, 0)
    return x / 2 * (1 + numpy.vectorize(math.erf)(x / math.sqrt(2)))


def mlp(about: dict, tensors: Tensors, pixels: numpy.ndarray) -> numpy.ndarray:
    """Logits of images, a row each."""
    normalizer = about["data"]["normalizer"]
    plane = math.prod(about["data"]["input"])
    mean, deviation = (numpy.repeat(normalizer[key], plane) for key in ["mean", "deviation"])
    x = (pixels.astype(float) / 255 - mean) / deviation
    names = [*(f"hidden.{number}" for number in range(len(about["model"]["hidden"]))), "output"]
    for name in names:
        x = x @ tensors[f"{name}.weight"].astype(float).T + tensors[f"{name}.bias"]
        if name != "output":
            x = activation(about["model"]["activation"], x)
    return x


def convolved(x: numpy.ndarray, weight: numpy.ndarray, size: int, stride: int) -> numpy.ndarray:
    """Images `[images, channels, height, width]` under windows of this size, with zeros around that keep stride 1 as large."""
    edge = size // 2
    x = numpy.pad(x, [(0, 0), (0, 0), (edge, edge), (edge, edge)])
    windows = numpy.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))[:, :, ::stride, ::stride]
    return numpy.einsum("nchwij,ocij->nohw", windows, weight.reshape(len(weight), -1, size, size), optimize=True)


def resnet(about: dict, tensors: Tensors, pixels: numpy.ndarray) -> numpy.ndarray:
    """Logits of images `[images, channels, height, width]`; what the layers are shows in the names and shapes of the tensors."""
    normalizer = about["data"]["normalizer"]
    mean, deviation = (numpy.reshape(normalizer[key], (-1, 1, 1)) for key in ["mean", "deviation"])
    part = lambda name: tensors[name].astype(float)

    def unit(x: numpy.ndarray, convolution: str, norm: str, stride: int) -> numpy.ndarray:
        weight = part(f"{convolution}.weight")
        size = math.isqrt(weight.shape[1] // x.shape[1])
        sums = convolved(x, weight, size, stride)
        gain, bias, mean, variance = (
            part(f"{norm}.{name}")[:, None, None] for name in ["weight", "bias", "running_mean", "running_var"]
        )
        return (sums - mean) / numpy.sqrt(variance + 1e-5) * gain + bias

    x = (pixels.astype(float) / 255 - mean) / deviation
    large = part("conv1.weight").shape[1] == 49 * x.shape[1]
    x = numpy.maximum(unit(x, "conv1", "bn1", 2 if large else 1), 0)
    if large:
        padded = numpy.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
        x = numpy.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2].max((4, 5))
    for stage in itertools.takewhile(lambda stage: f"layer{stage}.0.conv1.weight" in tensors, itertools.count(1)):
        for number in itertools.takewhile(lambda it: f"layer{stage}.{it}.conv1.weight" in tensors, itertools.count()):
            name = f"layer{stage}.{number}"
            stride = 2 if stage > 1 and number == 0 else 1
            bottleneck = f"{name}.conv3.weight" in tensors
            strides = [1, stride, 1] if bottleneck else [stride, 1]
            shortcut = f"{name}.downsample.0.weight" in tensors
            residual = unit(x, f"{name}.downsample.0", f"{name}.downsample.1", stride) if shortcut else x
            for at, stride in enumerate(strides, 1):
                last = at == len(strides)
                x = unit(x, f"{name}.conv{at}", f"{name}.bn{at}", stride)
                x = numpy.maximum(x + residual if last else x, 0)
    return x.mean((2, 3)) @ part("fc.weight").T + part("fc.bias")


def norm(x: numpy.ndarray, gain: numpy.ndarray, bias: numpy.ndarray) -> numpy.ndarray:
    centred = x - x.mean(1, keepdims=True)
    return centred / numpy.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * gain + bias


def transformer_xl(about: dict, tensors: Tensors, tokens: numpy.ndarray, memory: list[numpy.ndarray]):
    """Logits of what follows each token, and the memory after them; of one stream, with one embedding for all tokens."""
    model, part = about["model"], lambda name: tensors[name].astype(float)
    linear = lambda name, x: x @ part(f"{name}.weight").T + part(f"{name}.bias")
    width, heads = model["width"], model["heads"]
    split = lambda x: x.reshape(len(x), heads, -1).swapaxes(0, 1)
    x = math.sqrt(width) * part("embedding.weight")[tokens]
    seen = len(memory[0]) + len(tokens)
    angles = numpy.arange(seen)[:, None] * 10000.0 ** (-2 * numpy.arange(width // 2) / width)
    distances = numpy.concatenate([numpy.sin(angles), numpy.cos(angles)], 1)
    distance = numpy.arange(len(memory[0]), seen)[:, None] - numpy.arange(seen)
    visible = (distance >= 0) & (distance <= model["evaluation_memory"])
    kept = []
    for layer in range(model["layers"]):
        name, context = f"layers.{layer}.attention", numpy.concatenate([memory[layer], x])
        kept.append(context[max(0, len(context) - model["evaluation_memory"]) :])
        q, k, v = linear(f"{name}.query", x), linear(f"{name}.key", context), linear(f"{name}.value", context)
        r = split(linear(f"{name}.position", distances))
        content = split(q + part(f"{name}.u")) @ split(k).swapaxes(1, 2)
        position = split(q + part(f"{name}.w")) @ r.swapaxes(1, 2)
        index = numpy.broadcast_to(numpy.maximum(distance, 0), content.shape)
        scores = (content + numpy.take_along_axis(position, index, 2)) / math.sqrt(width // heads)
        scores = numpy.where(visible, scores, -numpy.inf)
        shares = numpy.exp(scores - scores.max(2, keepdims=True))
        shares /= shares.sum(2, keepdims=True)
        attended = (shares @ split(v)).swapaxes(0, 1).reshape(len(x), width)
        y = norm(x + linear(f"{name}.output", attended), part(f"{name}.norm.gain"), part(f"{name}.norm.bias"))
        name = f"layers.{layer}.feed_forward"
        hidden = activation(model["activation"], linear(f"{name}.inner", y))
        x = norm(y + linear(f"{name}.outer", hidden), part(f"{name}.norm.gain"), part(f"{name}.norm.bias"))
    return x @ part("embedding.weight").T + part("output.bias"), kept
