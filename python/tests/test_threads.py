"""Whose threads compute, and what becomes of them."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch


def run(*parts: str) -> str:
    """What a process of its own prints, with two threads whatever the machine has."""
    script = "import torch\ntorch.set_num_threads(2)\nfrom topkast.torch import SparseLinear\n"
    script += "".join(textwrap.dedent(part) for part in parts)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


OWN_THREADS = """
    import pathlib
    names = [task.read_text() for task in pathlib.Path("/proc/self/task").glob("*/comm")]
    print(sum(name.startswith("topkast") for name in names))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or "OpenMP" not in torch.__config__.parallel_info(), reason="PyTorch has no such threads"
)
def test_positions_enough_for_all_threads_need_none_of_ours():
    step = """
        layer = SparseLinear(64, 48, forward_sparsity=0.5)
        layer(torch.randn({}, 64)).sum().backward()
    """
    assert int(run(step.format(1000), OWN_THREADS)) == 0
    # The count tells, for where there are few they are ours.
    assert int(run(step.format(100), OWN_THREADS)) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_fork_computes_on_threads_of_its_own():
    script = """
        import os
        layer, x = SparseLinear(64, 48, forward_sparsity=0.5), torch.randn(1000, 64)
        with torch.no_grad():
            want = layer(x)
            child = os.fork()
            if child == 0:
                os._exit(0 if layer(x).numpy().tobytes() == want.numpy().tobytes() else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(script) == "0\n"
