"""Topkast as a contestant: one run of `topkast bench` a turn."""

from __future__ import annotations

import json
import subprocess

from .cases import BlockCase, Case, ConvolutionCase, LayerCase, ResNetCase
from .contestants import Failed
from .timing import Parts

NAME = "Topkast"
DENSE = "Topkast, its dense path"
ALL_SPARSE = 256
"""Outputs from which on the last layer is sparse too."""
LAYER_PARTS = ("forward", "input_gradient", "weight_gradient")


def command(binary: str, case: Case, threads: int) -> list[str]:
    """What a turn runs. Rounds within a run of `bench step` or `bench block` are ours to make: one goes from one refresh to the next."""
    sparsity = ["--forward", str(case.forward), "--backward", str(case.backward), "--threads", str(threads), "--json"]
    if isinstance(case, LayerCase):
        shape = ["--rows", str(case.rows), "--cols", str(case.cols), "--positions", str(case.positions)]
        return [binary, "bench", "layer", *shape, *sparsity, "--rounds", "7", "--no-break-even"]
    if isinstance(case, ConvolutionCase):
        shape = ["--outputs", str(case.outputs), "--inputs", str(case.inputs), "--kernel", str(case.kernel)]
        maps = ["--size", str(case.size), "--images", str(case.images)]
        return [binary, "bench", "convolution", *shape, *maps, *sparsity, "--rounds", "7"]
    if isinstance(case, ResNetCase):
        network = ["--depth", str(case.depth), "--size", str(case.size), "--batch", str(case.batch)]
        # A hundred steps of ResNet-50 take minutes; a tenth of a refresh in every step is more than users have.
        return [binary, "bench", "resnet", *network, "--refresh-every", "10", "--rounds", "1", *sparsity]
    if isinstance(case, BlockCase):
        network = ["--width", str(case.width), "--feed-forward", str(case.feed_forward), "--heads", str(case.heads)]
        text = ["--streams", str(case.streams), "--segment", str(case.segment)]
        return [binary, "bench", "block", *network, *text, "--rounds", "1", *sparsity]
    inputs, *hidden, outputs = case.widths
    network = ["--inputs", str(inputs), "--hidden", ",".join(map(str, hidden)), "--outputs", str(outputs)]
    # A layer of a few classes stays dense, as it does by default; as wide a one as the hidden layers would be most of the step.
    sparsity += ["--all-sparse"] if outputs >= ALL_SPARSE else []
    return [binary, "bench", "step", *network, "--batch", str(case.batch), "--rounds", "1", *sparsity]


def parse(report: dict, case: Case) -> dict[tuple[str, str], Parts]:
    """The times in what `topkast bench` printed, sparse and dense."""
    parts = LAYER_PARTS if isinstance(case, LayerCase | ConvolutionCase) else ("step",)
    try:
        return {
            (NAME, "topkast"): {part: float(report[f"{part}_ms"]) for part in parts},
            (DENSE, "topkast"): {part: float(report[f"dense_{part}_ms"]) for part in parts},
        }
    except KeyError as missing:
        raise Failed(f"`topkast bench` printed no {missing}") from None


def parse_parts(report: dict) -> dict[tuple[str, str], Parts]:
    """What the milliseconds of a block's step went to, sparse and dense."""
    found = {}
    try:
        for name, side in ((NAME, ""), (DENSE, "dense_")):
            update = report[f"{side}phases_ms"]["update"]
            parts = {part: report[f"{side}{part}_ms"] for part in ("linear", "attention", "other")}
            found[name, "topkast"] = {**parts, "update": update, "other": parts["other"] - update}
    except KeyError as missing:
        raise Failed(f"`topkast bench` printed no {missing}") from None
    return found


class Topkast:
    """Keeps the case's last report for the record: it says more than the times."""

    key = (NAME, "topkast")

    def __init__(self, binary: str, threads: int) -> None:
        self.binary, self.threads = binary, threads
        self.report: dict = {}

    def prepare(self, case: Case) -> None:
        self.case, self.report = case, {}

    def visit(self) -> dict[tuple[str, str], Parts]:
        run = subprocess.run(command(self.binary, self.case, self.threads), capture_output=True, text=True)
        if run.returncode:
            raise Failed((run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[0])
        self.report = json.loads(run.stdout)
        return parse(self.report, self.case)

    def parts(self) -> dict[tuple[str, str], Parts]:
        return parse_parts(self.report) if isinstance(self.case, BlockCase) else {}

    def close(self) -> None:
        """Nothing stays open between turns."""
