"""What the timings were taken on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CPU_FIELDS = (
    *("Model name", "CPU family", "Model", "CPU(s)", "Thread(s) per core"),
    *("L1d cache", "L2 cache", "L3 cache", "Hypervisor vendor"),
)
VECTOR_FLAGS = ("fma", "avx2", "avx512f", "avx512bw", "avx512_bf16", "avx512_vnni", "amx_tile")
PACKAGES = ("torch", "sparselab", "sparseprop", "numpy", "scipy")


def printed(*command: str) -> str:
    """What a command prints, or nothing where it does not exist or fails: a record without it is still a record."""
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def processor(lscpu: str) -> dict[str, str]:
    """Of what `lscpu` prints, what bears on speed."""
    lines = dict(line.split(":", 1) for line in lscpu.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in lines.items()}
    flags = fields.get("Flags", "").split()
    found = {name: fields[name] for name in CPU_FIELDS if name in fields}
    return {**found, "Vector flags": " ".join(flag for flag in VECTOR_FLAGS if flag in flags)}


def describe(topkast: str) -> dict[str, str]:
    """Processor and versions, name by name."""
    dirty = ", with uncommitted changes" if printed("git", "status", "--porcelain", "--untracked-files=no") else ""
    return {
        **processor(printed("lscpu")),
        "Kernel": platform.release(),
        "Load before the run": f"{os.getloadavg()[0]:.2f}",
        "Topkast": f"{printed(topkast, '--version')}, commit {printed('git', 'rev-parse', '--short=12', 'HEAD')}{dirty}",
        "Rust": printed("rustc", "--version"),
        "C++ compiler": printed("c++", "--version").partition("\n")[0],
        "Python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
    }
