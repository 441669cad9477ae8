"""A hundred steps with refreshes, against a dense network under masks whose optimizer sees all of θ."""

import pytest
import torch
from common import Masked, close, linear, theta_of
from torch import nn
from topkast.torch import SparseConv2d, TopKAST, sparsify


class AdafactorLike(torch.optim.Optimizer):
    """Second moments and updates clipped by their root mean square, over `sets` where it is given; its state is nested."""

    def __init__(self, parameters, lr=0.05, sets=None):
        super().__init__(parameters, dict(lr=lr))
        self.sets = sets or {}

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state.update(step=0, nested={"moments": [torch.zeros_like(parameter)]})
                state["step"] += 1
                [second] = state["nested"]["moments"]
                second.mul_(0.9).addcmul_(parameter.grad, parameter.grad, value=0.1)
                update = parameter.grad / (second.sqrt() + 1e-3)
                inside = self.sets.get(parameter, lambda: torch.ones_like(update))()
                rms = ((update.square() * inside).sum() / inside.sum()).sqrt()
                parameter.sub_(group["lr"] * update / rms.clamp_min(1.0))


OPTIMIZERS = {
    "sgd": lambda parameters, sets: torch.optim.SGD(parameters, lr=0.05),
    "momentum": lambda parameters, sets: torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=1e-3),
    "adam": lambda parameters, sets: torch.optim.Adam(parameters, lr=0.005),
    "adamw": lambda parameters, sets: torch.optim.AdamW(parameters, lr=0.005, weight_decay=0.05),
    "adafactor": lambda parameters, sets: AdafactorLike(parameters, 0.005, sets),
}


def zero(state, entered):
    """Of optimizer state as large as θ, what has just come into B."""
    for key, value in state.items() if isinstance(state, dict) else enumerate(state):
        if isinstance(value, (dict, list)):
            zero(value, entered)
        elif isinstance(value, torch.Tensor) and value.shape == entered.shape:
            value[entered.bool()] = 0


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("reservoir", ["implicit", "dense"])
def test_a_hundred_steps_are_those_of_the_masked_network(name, reservoir):
    if reservoir == "implicit":
        first = SparseConv2d(2, 6, 3, 2, 1, forward_sparsity=0.6, backward_sparsity=0.4)
        sparse = nn.Sequential(first, nn.Tanh(), nn.Flatten(), linear(24, 96, 0.8, 0.6), nn.Tanh(), linear(3, 24, 0.5, 0.3))
    else:
        dense = nn.Sequential(nn.Conv2d(2, 6, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(96, 24), nn.Tanh(), nn.Linear(24, 3))
        sparse = sparsify(dense, 0.7, 0.5, keep_ends=False, verbose=False)
    masked = nn.Sequential(
        *(Masked(layer, theta_of(layer)) if hasattr(layer, "values") else layer for layer in sparse)
    )
    twins = [layer for layer in masked if isinstance(layer, Masked)]
    sets = {layer.theta: (lambda layer=layer: layer.backward_set) for layer in twins}
    ours = OPTIMIZERS[name](sparse.parameters(), None)
    theirs = OPTIMIZERS[name](masked.parameters(), sets)
    penalty = 1e-2
    topology = TopKAST(sparse, ours, refresh_every=10, penalty=penalty)
    entries = 0
    for step in range(1, 101):
        x, target = torch.randn(16, 2, 8, 8), torch.randn(16, 3)
        ours.zero_grad()
        loss = (sparse(x) - target).square().mean()
        (loss + topology.penalty()).backward()
        ours.step()
        theirs.zero_grad()
        want = (masked(x) - target).square().mean()
        close(loss, want, 1e-4)
        pull = 0.0
        for layer in twins:
            squares = Alphaless.apply(layer.theta, layer.backward_set).square() / 2
            density = layer.counts[0] / layer.theta.numel()
            pull = pull + (squares * layer.active_set).sum() + (squares * (layer.backward_set - layer.active_set)).sum() / density
        (want + penalty * pull).backward()
        before = [layer.theta.detach().clone() for layer in twins]
        theirs.step()
        with torch.no_grad():
            for layer, old in zip(twins, before):
                # C neither moves nor decays.
                layer.theta.copy_(torch.where(layer.backward_set.bool(), layer.theta, old))
                if step % 10 == 0:
                    entered = layer.choose()
                    entries += int(entered.sum())
                    zero(theirs.state[layer.theta], entered)
        topology.step()
    assert entries > 20, "the sets must have moved for this to be a test"
    for (_, layer), twin in zip(topology.layers.items(), twins):
        active = int(layer.active)
        assert set(layer.indices[:active].tolist()) == set(twin.active_set.flatten().nonzero().flatten().tolist())
        assert set(layer.indices.tolist()) == set(twin.backward_set.flatten().nonzero().flatten().tolist())
        close(theta_of(layer), twin.theta.detach(), 1e-3)


class Alphaless(torch.autograd.Function):
    """θ, with a gradient for B alone."""

    @staticmethod
    def forward(ctx, theta, backward):
        ctx.save_for_backward(backward)
        return theta.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0], None


@pytest.mark.parametrize("make", [torch.optim.Adafactor, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax, torch.optim.Rprop, torch.optim.Adadelta, torch.optim.ASGD])
def test_any_optimizer_goes_along(make):
    model = linear(30, 40, 0.9, 0.7)
    optimizer = make(model.parameters(), lr=0.01)
    topology = TopKAST(model, optimizer, refresh_every=3, penalty=0.3)
    changed = 0
    for _ in range(12):
        optimizer.zero_grad()
        (model(torch.randn(8, 40)).square().mean() + topology.penalty()).backward()
        optimizer.step()
        numbers = {
            key: dict(zip(model.indices.tolist(), value.tolist()))
            for key, value in optimizer.state[model.values].items()
            if isinstance(value, torch.Tensor) and value.shape == model.values.shape
        }
        assert numbers or make is torch.optim.Rprop and not optimizer.state
        topology.step()
        for key, before in numbers.items():
            for index, value in zip(model.indices.tolist(), optimizer.state[model.values][key].tolist()):
                assert value == before.get(index, 0.0)
        changed += numbers and set(next(iter(numbers.values()))) != set(model.indices.tolist())
    assert changed


def test_gradients_are_accumulated_and_clipped():
    model = nn.Sequential(linear(30, 40), nn.ReLU(), linear(5, 30))
    x = torch.randn(8, 40)
    model(x).square().sum().backward()
    whole = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    for part in x.split(2):
        model(part).square().sum().backward()
    for parameter, want in zip(model.parameters(), whole):
        close(parameter.grad, want, 1e-4)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    close(norm, torch.stack([gradient.norm() for gradient in whole]).norm(), 1e-4)
    clipped = torch.stack([parameter.grad.norm() for parameter in model.parameters()]).norm()
    close(clipped, torch.tensor(0.5), 1e-3)


def test_penalties_are_the_papers():
    layer = linear(10, 20, 0.8, 0.6)
    active = int(layer.active)
    for kind, slope in [("l2", layer.values.detach()), ("l1", layer.values.detach().sign())]:
        layer.zero_grad()
        TopKAST(layer, penalty=0.1, penalty_kind=kind).penalty().backward()
        close(layer.values.grad[:active], 0.1 * slope[:active])
        close(layer.values.grad[active:], 0.1 / 0.2 * slope[active:])
