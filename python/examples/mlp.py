"""A sparse MLP on points of two spirals: python mlp.py"""

import torch
from torch import nn

import topkast


def spirals(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of two arms, and which arm each is of."""
    arm = torch.randint(2, (count,))
    turn = torch.rand(count) * 3 * torch.pi
    angle = turn + arm * torch.pi
    points = torch.stack([angle.cos(), angle.sin()], 1) * turn[:, None] / 10
    return points + 0.02 * torch.randn(count, 2), arm


def main(steps: int = 600) -> float:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(2, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2)
    )
    model = topkast.torch.sparsify(model, 0.95, 0.9, skip=["0"], reservoir="implicit")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    topology = topkast.torch.TopKAST(model, optimizer, refresh_every=20, penalty=1e-5)
    for step in range(1, steps + 1):
        points, arms = spirals(256)
        loss = nn.functional.cross_entropy(model(points), arms)
        optimizer.zero_grad()
        (loss + topology.penalty()).backward()
        optimizer.step()
        topology.step()
        if step % 100 == 0:
            points, arms = spirals(2000)
            accuracy = (model(points).argmax(1) == arms).float().mean().item()
            print(f"step {step}: loss {loss:.3f}, accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
