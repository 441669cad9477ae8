"""Exports of tiny networks, checked as `bench/export` does. Needs numpy, onnx and onnxruntime, and a binary in the environment variable
TOPKAST; without them there is nothing to test: `TOPKAST=target/release/topkast target/export-venv/bin/python -m unittest discover bench`."""

import importlib.util
import os
import tempfile
import unittest
from pathlib import Path

FOUND = all(importlib.util.find_spec(name) for name in ["numpy", "onnx", "onnxruntime"]) and "TOPKAST" in os.environ
TEXT = "data.kind=bytes model.kind=transformer-xl model.layers=2 model.width=24 model.heads=3 model.feed_forward=40 model.segment=8 \
model.memory=6 model.evaluation_memory=10 train.batch=2 train.steps=20 optimizer.kind=adam"
NETWORKS = {
    "mlp-relu": "model.hidden=[40,30] train.steps=20",
    "mlp-gelu": "model.hidden=[40] model.activation=gelu train.steps=20 sparsity.keep_dense=[]",
    "mlp-none": "model.hidden=[] train.steps=5",
    "resnet-small": "model.kind=resnet model.depth=8 model.width=8 train.steps=5 train.batch=32",
    "resnet-wide": "model.kind=resnet model.depth=10 model.width=4 model.widen=2 train.steps=5 train.batch=32",
    "resnet-50": "model.kind=resnet model.depth=50 model.width=4 model.stem=large train.steps=3 train.batch=16",
    "text-relu": TEXT,
    "text-gelu": f"{TEXT} model.activation=gelu model.evaluation_memory=0",
    "text-adaptive": f"{TEXT} model.adaptive_cutoffs=[100,120] model.adaptive_div_value=2",
}


@unittest.skipUnless(FOUND, "needs numpy, onnx, onnxruntime and TOPKAST")
class Exports(unittest.TestCase):
    def test_everybody_computes_the_same(self) -> None:
        from exports.check import check
        from exports.topkast import Topkast

        topkast = Topkast(Path(os.environ["TOPKAST"]).resolve())
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "text"
            text.write_bytes(b"To be, or not to be, that is the question. " * 100)
            for name, settings in NETWORKS.items():
                with self.subTest(name):
                    run = Path(folder) / name
                    words = [word for setting in settings.split() for word in ("--set", setting)]
                    if "bytes" in settings:
                        words += ["--set", f"data.path={text}"]
                    topkast("train", "--quiet", "--out", run, *words)
                    _, _, found = check(topkast, run, Path(folder))
                    self.assertLessEqual({"onnxruntime", "topkast"} - ({"onnxruntime"} if "adaptive" in name else set()), set(found))


if __name__ == "__main__":
    unittest.main()
