"""Whose threads compute, and what becomes of them."""

import subprocess
import sys
import textwrap

import pytest
import torch

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or "OpenMP" not in torch.__config__.parallel_info(), reason="PyTorch has no such threads"
)

START = """
import os
import pathlib
import torch
from topkast.torch import SparseLinear

def ours():
    names = [task.read_text() for task in pathlib.Path("/proc/self/task").glob("*/comm")]
    return sum(name.startswith("topkast") for name in names)

torch.set_num_threads(2)
layer = SparseLinear(64, 48, forward_sparsity=0.5)
"""


def run(script: str) -> str:
    """What a process of its own prints."""
    script = START + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_none_are_started_where_pytorch_has_some():
    script = """
        for positions in (3, 100, 1000):
            layer(torch.randn(positions, 64)).sum().backward()
        print(ours())
    """
    assert run(script) == "0\n"


def test_a_fork_has_threads_of_its_own():
    script = """
        x = torch.randn(1000, 64)
        with torch.no_grad():
            want = layer(x)
            child = os.fork()
            if child == 0:
                same = layer(x).numpy().tobytes() == want.numpy().tobytes()
                os._exit(0 if same and ours() == 2 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(script) == "0\n"


def test_several_threads_of_python_compute_at_once():
    script = """
        import threading
        inputs = [torch.randn(300, 64) for _ in range(4)]
        want = [layer(x).detach() for x in inputs]
        wrong = []

        def compute(x, y):
            for _ in range(50):
                if not torch.equal(layer(x), y):
                    wrong.append(1)

        threads = [threading.Thread(target=compute, args=pair) for pair in zip(inputs, want)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(len(wrong))
    """
    assert run(script) == "0\n"
