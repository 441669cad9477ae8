import pytest
import torch

from topkast.torch import functional


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(1)
    torch.set_num_threads(2)


@pytest.fixture(params=["kernels", "torch"])
def path(request, monkeypatch):
    """With the kernels, and with what other devices get."""
    monkeypatch.setattr(functional, "use_reference", request.param == "torch")
    return request.param
