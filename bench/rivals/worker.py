"""One rival in its own process, so that no two OpenMP runtimes meet: `python -m rivals.worker PATH --threads T`.

A request is a line of JSON on standard input, its answer a line on what was standard output; whatever libraries print goes
to standard error.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

from . import block_data, cases, layer_data, step_data
from .timing import Parts


class Subject(Protocol):
    """One rival, ready to do its work on one case."""

    def step(self) -> Parts: ...


def layer(module: str, name: str, **options: bool) -> Callable[[dict], Subject]:
    """Makes this class on the layer of a request and checks what it computes; imports it only then."""

    def make(fields: dict) -> Subject:
        data = layer_data.make(cases.layer_from_json(fields))
        subject = imported(module, name)(data, **options)
        subject.step()
        layer_data.check(data, subject.results())
        return subject

    return make


def step(**options: bool) -> Callable[[dict], Subject]:
    """Makes a PyTorch training step with these options on the network of a request, and checks its first losses."""

    def make(fields: dict) -> Subject:
        data = step_data.make(cases.step_from_json(fields))
        subject = imported("step_torch", "TrainingStep")(data, **options)
        step_data.check(data, subject.first_losses())
        return subject

    return make


def block(**options: bool) -> Callable[[dict], Subject]:
    """Makes a PyTorch step of a Transformer-XL block with these options, and checks its first losses."""

    def make(fields: dict) -> Subject:
        data = block_data.make(cases.block_from_json(fields))
        subject = imported("block_torch", "TrainingStep")(data, **options)
        block_data.check(subject.first_losses(), imported("block_reference", "losses")(data))
        return subject

    return make


def convolution(module: str, name: str, **options: bool) -> Callable[[dict], Subject]:
    """Makes this class on the convolution of a request and checks what it computes; imports it only then."""

    def make(fields: dict) -> Subject:
        data_module = importlib.import_module(".convolution_data", __package__)
        data = data_module.make(cases.convolution_from_json(fields))
        subject = imported(module, name)(data, **options)
        subject.step()
        data_module.check(data, subject.results())
        return subject

    return make


def resnet(**options: bool) -> Callable[[dict], Subject]:
    """Makes a PyTorch step of a residual network with these options, which checks that the loss of a batch falls."""
    return lambda fields: imported("resnet_torch", "TrainingStep")(cases.resnet_from_json(fields), **options)


def imported(module: str, name: str):
    return getattr(importlib.import_module(f".{module}", __package__), name)


PATHS: dict[str, Callable[[dict], Subject]] = {
    "dense-autograd": layer("layer_torch", "DenseAutograd"),
    "dense-products": layer("layer_torch", "DenseProducts"),
    "csr-mkl": layer("layer_torch", "CsrProducts", reduce=False),
    "csr-reduce": layer("layer_torch", "CsrProducts", reduce=True),
    "csr-autograd": layer("layer_torch", "CsrAutograd"),
    "sparselab": layer("layer_sparselab", "Sparselab"),
    "sparseprop": layer("layer_sparseprop", "SparseProp"),
    "convolution-dense": convolution("convolution_torch", "DenseConvolution", channels_last=False),
    "convolution-dense-last": convolution("convolution_torch", "DenseConvolution", channels_last=True),
    "convolution-sparseprop": convolution("convolution_sparseprop", "SparsePropConvolution", over_pixels=False),
    "convolution-sparseprop-pixels": convolution("convolution_sparseprop", "SparsePropConvolution", over_pixels=True),
    "resnet-eager": resnet(),
    "resnet-last": resnet(channels_last=True),
    "resnet-last-compile": resnet(channels_last=True, compile=True),
    "step-eager": step(),
    "step-foreach": step(foreach=True),
    "step-fused": step(fused=True),
    "step-fused-flush": step(fused=True, flush=True),
    "step-compile-fused": step(fused=True, compile=True),
    "block-eager": block(),
    "block-foreach": block(foreach=True),
    "block-fused": block(fused=True),
    "block-fused-flush": block(fused=True, flush=True),
    "block-compile-fused": block(fused=True, compile=True),
    "block-sdpa-foreach": block(sdpa=True, foreach=True),
    "block-sdpa-fused": block(sdpa=True, fused=True),
    "block-sdpa-compile-fused": block(sdpa=True, fused=True, compile=True),
}


def run(subject: Subject, seconds: float, at_least: int) -> list[Parts]:
    """One round that warms the caches, then timed ones until `seconds` are over."""
    subject.step()
    gc.disable()
    end = time.perf_counter() + seconds
    times: list[Parts] = []
    while len(times) < at_least or time.perf_counter() < end:
        times.append(subject.step())
    gc.enable()
    return times


def answer(request: dict, make: Callable[[dict], Subject], state: dict[str, Subject]) -> dict:
    """Does what a request says; what goes wrong is an answer too, so that it ends in the record."""
    try:
        if request["do"] == "prepare":
            state.clear()
            state["subject"] = make(request["case"])
            return {"ok": True}
        if request["do"] == "parts":
            tell = getattr(state["subject"], "parts", dict)
            return {"ok": True, "parts": tell()}
        return {"ok": True, "times": run(state["subject"], request["seconds"], request["at_least"])}
    except Exception as error:  # noqa: BLE001 - any failure of a rival is a finding
        return {"ok": False, "error": f"{type(error).__name__}: {error}".splitlines()[0]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", choices=PATHS)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(arguments.threads)
    state: dict[str, Subject] = {}
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), PATHS[arguments.path], state)), file=replies, flush=True)


if __name__ == "__main__":
    main()
