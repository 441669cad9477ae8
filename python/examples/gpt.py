"""A small sparse GPT on the bytes of a file: python gpt.py FILE"""

import sys
from pathlib import Path

import torch
from torch import nn

import topkast


class Gpt(nn.Module):
    def __init__(self, width: int = 256, layers: int = 4, length: int = 128) -> None:
        super().__init__()
        self.length = length
        self.token, self.place = nn.Embedding(256, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 256, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        x = self.token(tokens) + self.place(torch.arange(tokens.shape[1]))
        return self.head(self.blocks(x, mask=mask, is_causal=True))


def main(path: str, steps: int = 1000) -> None:
    torch.manual_seed(0)
    text = torch.tensor(list(Path(path).read_bytes()))
    # Embeddings and norms are never swapped; the head, being last, stays dense.
    model = topkast.torch.sparsify(Gpt(), 0.9, 0.8, reservoir="implicit")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    topology = topkast.torch.TopKAST(model, optimizer, refresh_every=100, penalty=1e-4)
    for step in range(1, steps + 1):
        starts = torch.randint(len(text) - model.length, (8,))
        batch = torch.stack([text[start : start + model.length + 1] for start in starts])
        loss = nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        (loss + topology.penalty()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        topology.step()
        if step % 50 == 0:
            print(f"step {step}: {loss.item() / 0.6931:.3f} bits per byte")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
