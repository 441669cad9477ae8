"""What moves the sets otherwise, against its definition."""

import math

import pytest
import torch
from common import Masked, linear, theta_of
from torch import nn
from topkast.torch import SET, Pruning, RigL, SparseConv2d, Static, TopKAST, sparsify


def network():
    dense = nn.Sequential(nn.Conv2d(2, 6, 3, 2, 1), nn.Flatten(), nn.Linear(54, 20), nn.Tanh(), nn.Linear(20, 4))
    return sparsify(dense, 0.8, keep_ends=False, initial="random", verbose=False)


def step(model, optimizer, topology, parts=1):
    optimizer.zero_grad()
    x = torch.randn(8, 2, 6, 6)
    for part in x.chunk(parts):
        model(part).square().sum().backward()
    optimizer.step()
    topology.step()
    return x


def sets(layer):
    return set(layer.indices.tolist())


@pytest.mark.parametrize("kind", [SET, RigL])
def test_sizes_stay_and_the_fraction_falls(kind):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    topology = kind(model, optimizer, end=9, every=2, drop_fraction=0.5)
    for number in range(1, 14):
        before = {name: (sets(layer), dict(zip(layer.indices.tolist(), layer.values.tolist()))) for name, layer in topology.layers.items()}
        step(model, optimizer, topology)
        due = number % 2 == 0 and number < 9
        for name, layer in topology.layers.items():
            old, _ = before[name]
            assert layer.values.numel() == len(old) == int(layer.active)
            count = int(len(old) * 0.25 * (1 + math.cos(math.pi * number / 9))) if due else 0
            new = sets(layer) - old
            assert len(new) == count if kind is SET else len(new) <= count
            assert not new or count
            values = dict(zip(layer.indices.tolist(), layer.values.tolist()))
            momentum = dict(zip(layer.indices.tolist(), optimizer.state[layer.values]["momentum_buffer"].tolist()))
            assert all(values[index] == 0 and momentum[index] == 0 for index in new)


@pytest.mark.parametrize("parts", [1, 4])
def test_rigl_grows_the_largest_gradients(parts):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    topology = RigL(model, optimizer, end=100, every=1, drop_fraction=0.4)
    topology.steps = 3
    layers = dict(topology.layers)
    twins = {name: Masked(layer, layer.to_dense()) for name, layer in layers.items()}
    dense = nn.Sequential(twins["0"], nn.Flatten(), twins["2"], nn.Tanh(), twins["4"])
    before = {name: (sets(layer), layer.to_dense().flatten()) for name, layer in layers.items()}
    for twin, layer in zip(twins.values(), layers.values()):
        twin.active_set = (layer.to_dense() != 0).float()
        twin.backward_set = torch.ones_like(twin.theta)
    x = step(model, optimizer, topology, parts)
    dense(x).square().sum().backward()
    for name, layer in layers.items():
        old, theta = before[name]
        count = int(len(old) * 0.2 * (1 + math.cos(math.pi * 4 / 100)))
        kept = sorted(old, key=lambda index: (-abs(theta[index].item()), index))[: len(old) - count]
        gradient = twins[name].theta.grad.flatten().abs()
        gradient[kept] = -1
        grown = gradient.topk(count).indices.tolist()
        assert sets(layer) == set(kept) | set(grown)
        assert not topology._passes[name]


def test_pruning_comes_to_its_sparsity_and_keeps_the_largest():
    model = nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 4))
    weight = model[0].weight.detach().clone()
    sparsify(model, 0.0, keep_ends=False, verbose=False)
    assert torch.equal(model[0].to_dense(), weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    topology = Pruning(model, optimizer, final_sparsity=0.9, end=10, every=3)
    sizes = []
    for number in range(1, 13):
        optimizer.zero_grad()
        model(torch.randn(4, 30)).square().mean().backward()
        optimizer.step()
        topology.step()
        sizes.append(model[0].values.numel())
        largest = weight.flatten().abs().topk(sizes[-1]).indices.tolist()
        assert sets(model[0]) == set(largest)
        assert all(v.shape == model[0].values.shape for v in optimizer.state[model[0].values].values() if v.dim())
    dropped = [int(540 * (1 - (1 - done / 3) ** 3)) for done in (0, 1, 2)]
    assert sizes == [600 - dropped[0]] * 2 + [600 - dropped[1]] * 3 + [600 - dropped[2]] * 3 + [60] * 4
    # What is pruned loads into what is not yet.
    other = sparsify(nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 4)), 0.0, keep_ends=False, verbose=False)
    other.load_state_dict(model.state_dict())
    x = torch.randn(4, 30)
    assert torch.equal(other(x), model(x))
    Pruning(other, final_sparsity=0.95, end=3, every=1)


def test_static_stays():
    layer = linear(20, 30)
    before = sets(layer)
    topology = Static(layer)
    topology.step()
    assert sets(layer) == before and topology.density() == layer.density


@pytest.mark.parametrize("explore", ["random", "mixed"])
def test_exploring_at_random(explore):
    layer = linear(30, 40, 0.9, 0.7)
    theta = theta_of(layer)
    topology = TopKAST(layer, explore=explore, refresh_every=1)
    topology.step()
    order = theta.flatten().abs().sort(descending=True, stable=True).indices.tolist()
    active, backward = int(layer.active), layer.values.numel()
    assert set(layer.indices[:active].tolist()) == set(order[:active])
    near = active + ((backward - active + 1) // 2 if explore == "mixed" else 0)
    assert set(order[:near]) <= sets(layer) and sets(layer) != set(order[:backward])
    assert torch.equal(theta_of(layer), theta)


def test_wrong_uses_are_errors():
    layer = linear(20, 30, 0.8, 0.6)
    optimizer = torch.optim.SGD(nn.Linear(3, 3).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="make it after sparsify"):
        TopKAST(layer, optimizer)
    with pytest.raises(ValueError, match="no sparse layer"):
        TopKAST(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="B = A"):
        RigL(layer, end=10)
    with pytest.raises(ValueError, match="refresh_every"):
        TopKAST(layer, refresh_every=0)
    with pytest.raises(ValueError, match="at least one update"):
        Pruning(linear(20, 30, 0.0, 0.0), final_sparsity=0.9, end=5, every=10)
    other = linear(20, 30, 0.8, 0.8)
    SET(other, end=10)
    with pytest.raises(ValueError, match="C's values are not known"):
        TopKAST(other)


def test_rigl_forms_no_whole_gradient(monkeypatch):
    from topkast.torch import drop_and_grow

    monkeypatch.setattr(drop_and_grow, "TILE", 64)
    largest = []
    plain = drop_and_grow._gradient

    def watched(*arguments):
        tile = plain(*arguments)
        largest.append(tile.numel())
        return tile

    monkeypatch.setattr(drop_and_grow, "_gradient", watched)
    layer = SparseConv2d(2, 8, 3, forward_sparsity=0.5)
    topology = RigL(layer, end=10, every=2)
    for _ in range(2):
        layer(torch.randn(2, 2, 6, 6)).square().sum().backward()
        topology.step()
    assert max(largest) <= 64 and sum(largest) == layer.total
