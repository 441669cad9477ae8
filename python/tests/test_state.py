"""Checkpoints, copies and averages: sets, values, C and optimizer state stay together."""

import copy
import io
import pickle

import pytest
import torch
from common import close, linear, theta_of
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from topkast.torch import SparseConv2d, TopKAST, sparse_layers, sparsify


def model(reservoir="implicit"):
    dense = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Flatten(), nn.Linear(6 * 16, 30), nn.Tanh(), nn.Linear(30, 4))
    return sparsify(dense, 0.8, 0.6, keep_ends=False, reservoir=reservoir, verbose=False)


def trainer(network, steps=0):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    topology = TopKAST(network, optimizer, refresh_every=3, penalty=0.05)
    train(network, optimizer, topology, range(steps))
    return optimizer, topology


def train(network, optimizer, topology, steps):
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 2, 6, 6, generator=generator)
        optimizer.zero_grad()
        (network(x).square().mean() + topology.penalty()).backward()
        optimizer.step()
        topology.step()


def saved(network):
    """As a file has it."""
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same(a, b):
    for (name, one), (_, other) in zip(sparse_layers(a).items(), sparse_layers(b).items(), strict=True):
        assert torch.equal(one.indices, other.indices), name
        assert torch.equal(one.values, other.values), name
        assert torch.equal(theta_of(one), theta_of(other)), name


@pytest.mark.parametrize("reservoir", ["implicit", "dense"])
def test_a_resumed_run_is_an_uninterrupted_one(reservoir):
    """What breaks elsewhere: loading after the topology has changed, and optimizer state from then."""
    whole = model(reservoir)
    start = whole.state_dict()
    start = {key: copy.deepcopy(value) for key, value in start.items()}
    optimizer, topology = trainer(whole, 20)

    first = model(reservoir)
    first.load_state_dict(start)
    optimizer, topology = trainer(first, 11)
    states = saved(first), copy.deepcopy(optimizer.state_dict()), topology.state_dict()
    assert not torch.equal(first[2].indices, start["2.indices"]), "the sets must have changed"

    second = model(reservoir)
    second.load_state_dict(states[0], strict=True)
    same(first, second)
    optimizer, topology = trainer(second)
    optimizer.load_state_dict(states[1])
    topology.load_state_dict(states[2])
    train(second, optimizer, topology, range(11, 20))
    same(whole, second)


@pytest.mark.parametrize("reservoir", ["implicit", "dense"])
def test_copies_live_on_their_own(reservoir):
    network = model(reservoir)
    optimizer, topology = trainer(network, 7)
    copies = [copy.deepcopy(network), pickle.loads(pickle.dumps(network))]
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    copies.append(torch.load(file, weights_only=False))
    x = torch.randn(3, 2, 6, 6)
    before = [value.clone() for value in network.state_dict().values() if isinstance(value, torch.Tensor)]
    for other in copies:
        assert torch.equal(network(x), other(x))
        same(network, other)
        trainer(other, 7)
    same(copies[0], copies[1])
    assert all(torch.equal(a, b) for a, b in zip(before, [v for v in network.state_dict().values() if isinstance(v, torch.Tensor)]))


def test_modules_and_optimizers_are_copied_together():
    network = model()
    parts = (network, torch.optim.Adam(network.parameters(), lr=0.01))
    other, optimizer = copy.deepcopy(parts)
    topology = TopKAST(other, optimizer, refresh_every=1, penalty=0.05)
    train(other, optimizer, topology, range(3))
    assert not torch.equal(network[2].indices, other[2].indices)


def test_averages_get_the_same_sets():
    network = model()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    topology = TopKAST(network, optimizer, refresh_every=2, penalty=0.2, averages=[average])
    expected = {name: theta_of(layer) for name, layer in sparse_layers(network).items()}
    moved = False
    for step in range(6):
        train(network, optimizer, topology, [step])
        average.update_parameters(network)
        pairs = zip(sparse_layers(network).items(), sparse_layers(average).values(), strict=True)
        for (name, layer), other in pairs:
            assert torch.equal(layer.indices, other.indices)
            theta, inside = theta_of(layer).flatten(), layer.indices.long()
            old = expected[name].flatten()
            # The average of every entry of B; what has left B starts anew from θ when it returns.
            entered = torch.ones_like(theta, dtype=torch.bool)
            entered[known.get(name, inside) if step else inside] = False
            expected[name] = theta.clone().view_as(expected[name])
            source = torch.where(entered[inside], theta[inside], old[inside]) if step else old[inside]
            if step == 0:
                close(other.values, theta[inside])
            else:
                close(other.values, 0.5 * source + 0.5 * theta[inside], 1e-4)
            expected[name].view(-1)[inside] = other.values.detach()
            moved |= step > 0 and bool(entered[inside].any())
        known = {name: layer.indices.long().clone() for name, layer in sparse_layers(network).items()}
        x = torch.randn(2, 2, 6, 6)
        assert average(x).shape == (2, 4)
    assert moved
    with pytest.raises(ValueError, match="copy of the model"):
        TopKAST(network, optimizer, averages=[linear(3, 4)])


def test_checkpoints_that_do_not_fit_are_errors():
    layer = linear(10, 20, 0.8, 0.6)
    good = layer.state_dict()

    def refused(match, **changes):
        with pytest.raises(RuntimeError, match=match):
            linear(10, 20, 0.8, 0.6).load_state_dict({**good, **changes})

    linear(10, 20, 0.8, 0.6).load_state_dict(good)
    with pytest.raises(RuntimeError, match="size mismatch"):
        linear(10, 20, 0.9, 0.6).load_state_dict({**linear(10, 20, 0.9, 0.7).state_dict()})
    refused("must ascend", indices=good["indices"].flip(0))
    refused("below 200", indices=good["indices"] + 150)
    refused("one length", values=good["values"][1:])
    refused("cannot be active", active=torch.tensor(10**6))
    with pytest.raises(RuntimeError, match="Missing key"):
        linear(10, 20, 0.8, 0.6).load_state_dict({key: value for key, value in good.items() if key != "indices"})
    extra = good["_extra_state"]
    with pytest.raises(ValueError, match="of shape"):
        linear(10, 20, 0.8, 0.6).load_state_dict({**good, "_extra_state": {**extra, "shape": [20, 10]}})
    # What C was can only be seen when it is asked for.
    inside = [good["indices"][:1].long(), torch.zeros(1)]
    other = linear(10, 20, 0.8, 0.6)
    other.load_state_dict({**good, "_extra_state": {**extra, "reservoir": inside}})
    with pytest.raises(ValueError, match="dormant entry .* is in B"):
        other(torch.randn(1, 20))


def test_buffers_that_others_write_are_noticed():
    layer, other = linear(10, 20), linear(10, 20)
    x = torch.randn(3, 20)
    with torch.no_grad():
        other.values.copy_(layer.values)
        other.indices.copy_(layer.indices)
    close(other(x) - other.bias, layer(x) - layer.bias)
    moved = copy.deepcopy(layer).to(torch.float64).to(torch.float32)
    close(moved(x), layer(x))
    with torch.no_grad():
        other.indices[0] = other.indices[1]
    with pytest.raises(ValueError, match="ascending"):
        other(x)


def test_convolutions_reload_with_their_window():
    layer = SparseConv2d(3, 4, 3, stride=2, padding=1, forward_sparsity=0.5)
    other = pickle.loads(pickle.dumps(layer))
    x = torch.randn(2, 3, 9, 9)
    assert torch.equal(layer(x), other(x))
