"""Feed-forward parts as one operation, beside the modules one after the other."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from common import close, linear
from torch import nn

from topkast.torch import SparseLinear, densify, sparsify
from topkast.torch.feed_forward import (
    SparseSequential,
    SparseTransformerDecoderLayer,
    SparseTransformerEncoderLayer,
    feed_forward,
)


def gradients(y, tensors):
    return torch.autograd.grad(y.mul(torch.arange(y.numel()).view(y.shape).remainder(7)).sum(), tensors)


def tensors_of(x, *layers):
    return [x, *(parameter for layer in layers for parameter in layer.parameters())]


@pytest.mark.parametrize("activation", [F.relu, F.gelu, nn.ReLU(), nn.GELU()])
@pytest.mark.parametrize("inputs, units, outputs", [(1, 1, 1), (7, 15, 5), (33, 129, 16), (300, 700, 90)])
@pytest.mark.parametrize("leading", [(1,), (17,), (2, 0, 3), (5, 65)])
def test_it_is_what_the_layers_are(activation, inputs, units, outputs, leading):
    sparsity = 0.0 if inputs == 1 else 0.6
    first = linear(units, inputs, sparsity, sparsity / 2, bias=len(leading) == 1)
    second = linear(outputs, units, sparsity, sparsity / 2, bias=inputs != 7)
    x = torch.randn(*leading, inputs, requires_grad=True)
    y = feed_forward(x, first, activation, 0.0, second)
    want = second(activation(first(x)))
    close(y, want)
    for got, twin in zip(gradients(y, tensors_of(x, first, second)), gradients(want, tensors_of(x, first, second))):
        close(got, twin, 3e-5)


@pytest.mark.parametrize("positions", [60, 700, 3000])
def test_threads_do_not_show(positions):
    first, second, x = linear(200, 60), linear(60, 200), torch.randn(positions, 60, requires_grad=True)
    results = []
    for threads in (1, 2, 3, 17):
        torch.set_num_threads(threads)
        torch.manual_seed(3)
        y = feed_forward(x, first, F.gelu, 0.3, second)
        results.append([y.detach(), *gradients(y, tensors_of(x, first, second))])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_a_part_may_be_frozen_and_a_graph_used_twice():
    first, second, x = linear(50, 20), linear(30, 50), torch.randn(9, 20, requires_grad=True)
    all_of_them = gradients(feed_forward(x, first, F.gelu, 0.0, second), tensors_of(x, first, second))
    for number, frozen in enumerate(tensors_of(x, first, second)):
        frozen.requires_grad_(False)
        left = [one for one in tensors_of(x, first, second) if one is not frozen]
        for got, want in zip(gradients(feed_forward(x, first, F.gelu, 0.0, second), left), [
            one for at, one in enumerate(all_of_them) if at != number
        ]):
            assert torch.equal(got, want)
        frozen.requires_grad_()
    y = feed_forward(x, first, F.gelu, 0.0, second).square().sum()
    y.backward(retain_graph=True)
    once = first.values.grad.clone()
    y.backward()
    close(first.values.grad, 2 * once)
    with torch.no_grad():
        assert not feed_forward(x, first, F.gelu, 0.0, second).requires_grad


def test_dropout_drops_so_many_and_keeps_the_mean():
    width = 2000
    ones = SparseLinear(1, width, forward_sparsity=0.0)
    # One of the second layer's outputs for each hidden unit.
    same = SparseLinear(width, width, bias=False, forward_sparsity=1 - 1 / width)
    same.set_entries(torch.arange(width) * (width + 1), torch.ones(width))
    with torch.no_grad():
        ones.values.fill_(0.0)
        ones.bias.fill_(1.0)
    x = torch.zeros(300, 1, requires_grad=True)
    y = feed_forward(x, ones, F.relu, 0.25, same)
    close(y.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert abs(float((y == 0).float().mean()) - 0.25) < 0.01
    # No position or unit is dropped always.
    assert (y == 0).float().mean(0).max() < 0.5 and (y == 0).float().mean(1).max() < 0.5
    assert not torch.equal(y, feed_forward(x, ones, F.relu, 0.25, same))
    # What was dropped takes no part in the gradients.
    [bias] = torch.autograd.grad(y.sum(), [ones.bias])
    close(bias, y.detach().sum(0), 1e-4)


def test_where_modules_would_be_missed_they_are_called():
    first, second, x = linear(50, 20), linear(30, 50), torch.randn(9, 20)
    assert feed_forward(x, first, F.gelu, 0.0, second) is not None
    assert feed_forward(x, first, torch.tanh, 0.0, second) is None
    assert feed_forward(x, first, nn.GELU("tanh"), 0.0, second) is None
    assert feed_forward(x.bfloat16(), first, F.gelu, 0.0, second) is None
    assert feed_forward(x, first, F.gelu, 0.0, nn.Linear(50, 30)) is None
    assert feed_forward(torch.randn(9, 21), first, F.gelu, 0.0, second) is None
    handle = second.register_forward_hook(lambda *_: None)
    assert feed_forward(x, first, F.gelu, 0.0, second) is None
    handle.remove()
    watched = nn.ReLU()
    watched.register_forward_hook(lambda *_: None)
    assert feed_forward(x, first, watched, 0.0, second) is None
    assert feed_forward(x, first, F.gelu, 0.0, second) is not None


@pytest.mark.parametrize("dense", [nn.TransformerEncoderLayer, nn.TransformerDecoderLayer])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_transformer_layers_become_sparse_ones_and_dense_again(dense, activation):
    model = sparsify(dense(32, 4, 64, activation=activation), 0.6, 0.3, verbose=False)
    sparse = SparseTransformerEncoderLayer if dense is nn.TransformerEncoderLayer else SparseTransformerDecoderLayer
    assert type(model) is sparse and isinstance(model, dense)
    arguments = [torch.randn(5, 3, 32)] * (2 if dense is nn.TransformerDecoderLayer else 1)
    model.eval()
    y = model(*arguments)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is sparse and torch.equal(other(*arguments), y)
    model.load_state_dict(copy.deepcopy(model).state_dict())
    # One hook, and the modules are called.
    calls = []
    handle = model.linear1.register_forward_hook(lambda *_: calls.append(1))
    close(model(*arguments), y, 1e-4)
    assert calls
    handle.remove()
    model.train()
    assert model(*arguments).shape == y.shape
    back = densify(model).eval()
    assert type(back) is dense
    close(back(*arguments), y, 1e-4)


@pytest.mark.parametrize("dropout", [None, 0.4])
def test_sequences_join_their_layers(dropout, monkeypatch):
    between = [nn.GELU()] if dropout is None else [nn.GELU(), nn.Dropout(dropout)]
    layers = [nn.Linear(20, 40), *between, nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 25), nn.Tanh(), nn.Linear(25, 5)]
    model = sparsify(nn.Sequential(*layers), 0.6, 0.3, verbose=False)
    assert type(model) is SparseSequential and type(model[-1]) is nn.Linear
    x = torch.randn(70, 20)
    called = []
    for number, module in enumerate(model):
        monkeypatch.setattr(module, "forward", lambda *a, n=number, f=module.forward: (called.append(n), f(*a))[1])
    model(x)
    # The first two sparse layers are one; the third has a dense one after it.
    assert called == list(range(2 + len(between), len(layers)))
    model.eval()
    y = model(x)
    want = x
    for module in model:
        want = module(want)
    close(y, want, 1e-4)
    assert list(model.state_dict()) == list(copy.deepcopy(model).state_dict())
    assert type(densify(model)) is nn.Sequential
    close(model(x), want, 1e-4)


def test_sequences_without_such_layers_stay_what_they_are():
    model = nn.Sequential(nn.Linear(20, 40), nn.Tanh(), nn.Linear(40, 30), nn.Sequential(nn.ReLU(), nn.Linear(30, 5)))
    sparsify(model, 0.6, 0.3, keep_ends=False, verbose=False)
    assert type(model) is nn.Sequential and type(model[3]) is nn.Sequential
