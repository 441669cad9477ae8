"""Calling the `topkast` command."""

import json
import subprocess
from pathlib import Path


class Topkast:
    def __init__(self, binary: Path) -> None:
        self.binary = binary

    def __call__(self, *words: object) -> str:
        done = subprocess.run([self.binary, *map(str, words)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"topkast {' '.join(map(str, words))}: {done.stderr}")
        return done.stdout

    def json(self, *words: object) -> list[dict]:
        return [json.loads(line) for line in self(*words, "--json").splitlines()]

    def export(self, run: Path, folder: Path) -> dict[str, Path]:
        """The run in every format."""
        files = {form: folder / f"{run.name}.{form}" for form in ["sparse", "dense", "onnx"]}
        for form, file in files.items():
            self("export", run, "--format", form, file)
        return files
