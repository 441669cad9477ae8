"""torchvision's ResNet-18, sparse from the first step, on made-up images: python resnet.py (needs torchvision)"""

import sys

import torch
import torchvision
from torch import nn

import topkast


def main(steps: int = 20) -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10)
    # The first convolution and the last layer stay dense.
    model = topkast.torch.sparsify(model, forward_sparsity=0.9, backward_sparsity=0.8, reservoir="implicit")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    topology = topkast.torch.TopKAST(model, optimizer, refresh_every=10, penalty=1e-4)
    patterns = torch.randn(10, 3, 64, 64)
    for step in range(1, steps + 1):
        labels = torch.randint(10, (32,))
        images = patterns[labels] + torch.randn(32, 3, 64, 64)
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        (loss + topology.penalty()).backward()
        optimizer.step()
        topology.step()
        print(f"step {step}: loss {loss.item():.3f}")
    print(topkast.torch.summary(model))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
