"""Whether everybody computes the same from an export, to 1e-5 of the largest number.

The reference is numpy in double precision, from the sparse file by the documented reader."""

import importlib.util
from pathlib import Path

import numpy
import onnx
import onnxruntime

from . import reference
from .reader import documented
from .topkast import Topkast

CLOSE = 1e-5


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def distance(got: numpy.ndarray, want: numpy.ndarray) -> float:
    """The largest difference, as a fraction of the largest number."""
    assert got.shape == want.shape, f"{got.shape} is not {want.shape}"
    return float(abs(got - want).max(initial=0.0) / abs(want).max(initial=1.0))


def in_torch(path: Path):
    """The network of a dense export in PyTorch, if that is installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    from . import in_torch as networks

    return networks.load(path)


def idx(images: numpy.ndarray) -> bytes:
    return b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in images.shape) + images.tobytes()


def images(topkast: Topkast, about: dict, tensors: dict, files: dict[str, Path]) -> dict[str, float]:
    shape, channels, maps = about["data"]["input"], about["data"].get("channels", 1), about["model"]["kind"] == "resnet"
    images = numpy.random.default_rng(1).integers(0, 256, (20, channels, *shape), numpy.uint8)
    pixels = (images if maps else images.reshape(20, -1)).astype(numpy.float32)
    want = (reference.resnet if maps else reference.mlp)(about, tensors, pixels)
    found = {"onnxruntime": distance(session(files["onnx"]).run(None, {"pixels": pixels})[0], want)}
    if network := in_torch(files["dense"]):
        import torch

        found["torch"] = distance(network(torch.tensor(pixels)).detach().numpy(), want)
    if channels > 1:
        return found  # no file of many images in colour
    file = files["sparse"].with_suffix(".idx")
    file.write_bytes(idx(images[:, 0]))
    answers = topkast.json("predict", files["sparse"], file)
    exponentials = numpy.exp(want - want.max(1, keepdims=True))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    found["topkast"] = distance(numpy.array([answer["probabilities"] for answer in answers]), probabilities)
    return found


def transformer_xl(topkast: Topkast, about: dict, tensors: dict, files: dict[str, Path]) -> dict[str, float]:
    """Three segments one after the other, the memory carried over; by Topkast the loss of their text."""
    layers, width = about["model"]["layers"], about["model"]["width"]
    text = (b"And it came to pass, that in the beginning was the word. " * 200)[:8000]
    test = numpy.frombuffer(text[7600:], numpy.uint8).astype(numpy.int64)
    segments = numpy.split(test[:-1], [150, 157])
    run, found, losses = session(files["onnx"]), {}, []
    names = [output.name for output in run.get_outputs()]
    network = in_torch(files["dense"]) if "embedding.weight" in tensors else None
    ours = [numpy.zeros((0, width))] * layers
    theirs = {f"memory.{layer}": numpy.zeros((0, width), numpy.float32) for layer in range(layers)}
    in_theirs = None
    for tokens in segments:
        results = dict(zip(names, run.run(None, {"tokens": tokens, **theirs})))
        theirs = {name: results[f"{name}.next"] for name in theirs}
        logits = results["logits"].astype(float)
        highest = logits.max(1, keepdims=True)
        losses.append(highest + numpy.log(numpy.exp(logits - highest).sum(1, keepdims=True)) - logits)
        if "embedding.weight" not in tensors:
            continue  # adaptive: the loss alone is compared
        want, ours = reference.transformer_xl(about, tensors, tokens, ours)
        found["onnxruntime"] = max(found.get("onnxruntime", 0.0), distance(results["logits"], want))
        for layer, remembered in enumerate(ours):
            found["onnxruntime"] = max(found["onnxruntime"], distance(theirs[f"memory.{layer}"], remembered))
        if network:
            import torch

            in_theirs = in_theirs or [torch.zeros(0, width)] * layers
            with torch.no_grad():
                got, in_theirs = network(torch.tensor(tokens), in_theirs)
            found["torch"] = max(found.get("torch", 0.0), distance(got.numpy(), want))
    loss = numpy.concatenate(losses)[numpy.arange(len(test) - 1), test[1:]].mean()
    file = files["sparse"].with_suffix(".txt")
    file.write_bytes(text)
    (score,) = topkast.json("eval", files["sparse"], "--data", file)
    found["topkast"] = abs(score["test_loss"] - loss) / max(1.0, loss)
    return found


def check(topkast: Topkast, run: Path, folder: Path) -> tuple[dict, dict[str, Path], dict[str, float]]:
    """What the export of a run says of itself, its files, and how far each contestant is from the reference."""
    files = topkast.export(run, folder)
    onnx.checker.check_model(onnx.load(files["onnx"]), full_check=True)
    about, tensors = documented()(files["sparse"])
    found = {"mlp": images, "resnet": images, "transformer-xl": transformer_xl}[about["model"]["kind"]](topkast, about, tensors, files)
    for who, off in found.items():
        if not off <= CLOSE:
            raise AssertionError(f"{run.name}: {who} is off by {off}")
    return about, files, found
