"""What becomes sparse, what stays dense and why, and the way back."""

import pytest
import torch
from common import close
from torch import nn
from topkast.torch import SparseConv2d, SparseLinear, SparseMultiheadAttention, TopKAST, densify, sparsify, summary


class ResNet(nn.Module):
    """Two blocks and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList([Block(8, 8, 1), Block(8, 16, 2)])
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, "same", bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.short = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (y + self.short(x)).relu()


def trains(model, x, target, steps=30):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    topology = TopKAST(model, optimizer, refresh_every=5, penalty=1e-3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean()
        (loss + topology.penalty()).backward()
        optimizer.step()
        topology.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("reservoir", ["dense", "implicit"])
def test_a_resnet_in_three_lines(reservoir, capsys):
    model = ResNet()
    before = model.blocks[0].conv1.weight.detach().clone()
    sparsify(model, 0.8, 0.6, reservoir=reservoir)
    said = capsys.readouterr().out
    assert "the first convolution" in said and "the last layer" in said and "blocks.1.short" in said
    assert type(model.stem) is nn.Conv2d and type(model.fc) is nn.Linear
    assert isinstance(model.blocks[1].conv2, SparseConv2d)
    layer = model.blocks[0].conv1
    if reservoir == "dense":
        kept = layer.to_dense(backward=True).view_as(before)
        assert torch.equal(kept[kept != 0], before[kept != 0])
    else:
        assert 0.8 < layer.values.detach().square().mean().sqrt() / before.square().mean().sqrt() < 2.5
    losses = trains(model, torch.randn(16, 3, 8, 8), torch.randn(16, 10))
    assert losses[-1] < 0.5 * losses[0]
    assert "blocks.1.conv1" in summary(model)
    x = torch.randn(2, 3, 8, 8)
    model.eval()
    want = model(x)
    dense = densify(model)
    assert not any(isinstance(module, (SparseConv2d, SparseLinear)) for module in dense.modules())
    close(dense(x), want)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_transformer_in_three_lines(batch_first, norm_first):
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=batch_first, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    # Everything active: the same network.
    x = torch.randn(6, 5, 32)
    mask = nn.Transformer.generate_square_subsequent_mask(5 if batch_first else 6)
    padding = torch.zeros(x.shape[:2] if batch_first else (5, 6), dtype=torch.bool)
    padding[0, -2:] = True
    cases = [{}, dict(mask=mask, is_causal=True), dict(src_key_padding_mask=padding.float().masked_fill(padding, float("-inf"))), dict(mask=mask)]
    want = [model(x, **case) for case in cases]
    whole = sparsify(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), 0.0, verbose=False)
    model_state = [module for module in whole.modules() if isinstance(module, SparseMultiheadAttention)]
    assert len(model_state) == 2
    full = sparsify(model, 0.0, verbose=False)
    for case, expected in zip(cases, want):
        close(full(x, **case), expected, 1e-4)
        full.eval()
        close(full(x, **case), expected, 1e-4)
        full.train()
    sparse = sparsify(densify(full), 0.8, 0.6, verbose=False)
    assert not any(type(module) is nn.Linear for module in sparse.modules())
    losses = trains(sparse, x, torch.randn(6, 5, 32))
    assert losses[-1] < 0.8 * losses[0]
    sparse.eval()
    want = sparse(x)
    close(densify(sparse)(x), want, 1e-4)


def test_attention_is_pytorchs():
    dense = nn.MultiheadAttention(16, 4, batch_first=True)
    q, k = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 3:] = True
    mask = torch.rand(8, 5, 7) > 0.7
    mask[..., 0] = False
    arguments = [((q, k, k), {}), ((q, k, k), dict(key_padding_mask=padding)), ((q, k, k), dict(attn_mask=mask[0])), ((q, k, k), dict(attn_mask=mask, need_weights=False)), ((q, q, q), dict(average_attn_weights=False)), ((q[0], k[0], k[0]), {})]
    want = [dense(*inputs, **named) for inputs, named in arguments]
    sparse = sparsify(nn.ModuleList([dense]), 0.0, keep_ends=False, verbose=False)[0]
    assert isinstance(sparse, SparseMultiheadAttention)
    for (inputs, named), (expected, weights) in zip(arguments, want):
        got, of_got = sparse(*inputs, **named)
        close(got, expected, 1e-4)
        assert (of_got is None) == (weights is None)
        if weights is not None:
            close(of_got, weights, 1e-4)


def test_what_stays_dense_says_why(capsys):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(50, 16)
            self.tied = nn.Linear(16, 50, bias=False)
            self.tied.weight = self.embedding.weight
            self.groups = nn.Conv2d(8, 8, 3, groups=4)
            self.circular = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
            self.even = nn.Conv2d(8, 8, 4, padding="same")
            self.tiny = nn.Linear(2, 2)
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))
            self.wide = nn.Linear(16, 32)
            self.named = nn.Linear(16, 32)
            self.attention = nn.MultiheadAttention(16, 2, kdim=8, vdim=8)

    model = sparsify(Odd(), 0.9, skip=["named"], keep_ends=False)
    said = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for name, reason in [("tied", "shared"), ("groups", "4 groups"), ("circular", "circular"), ("even", "differently"), ("tiny", "no active"), ("normed", "Linear"), ("named", "in skip"), ("attention.in_proj", "different widths")]:
        assert "dense" in said[name] and reason in said[name], said[name]
    assert isinstance(model.wide, SparseLinear)
    assert [name for name, module in model.named_modules() if isinstance(module, SparseLinear)] == ["wide"]


def test_names_and_densities():
    def made(**named):
        model = nn.Sequential(nn.Linear(40, 40), nn.Sequential(nn.Linear(40, 80), nn.Linear(80, 40)), nn.Linear(40, 10))
        return sparsify(model, 0.9, 0.8, verbose=False, **named)

    model = made(skip=["1"])
    assert type(model[1][0]) is nn.Linear and type(model[3 - 1]) is nn.Linear
    model = made(include=["1.*"], layers={"1.0": (0.5, 0.25)})
    assert type(model[0]) is nn.Linear and (int(model[1][0].active), model[1][0].values.numel()) == (1600, 2400)
    assert int(model[1][1].active) == 320
    model = made(distribution="erk", keep_ends=False)
    layers = [module for module in model.modules() if isinstance(module, SparseLinear)]
    assert sum(int(layer.active) for layer in layers) == (1600 + 3200 + 3200 + 400) // 10
    assert layers[3].density > layers[0].density > layers[1].density
    for bad in [dict(skip=["nothing"]), dict(layers={"nothing": (0.9, 0.8)}), dict(reservoir="disk"), dict(initial="random"), dict(distribution="even"), dict(layers={"0": (0.5, 0.9)}), dict(include=["0"], skip=["0"])]:
        with pytest.raises(ValueError):
            made(**bad)


def test_one_layer_is_a_model_and_seeds_decide():
    torch.manual_seed(7)
    one = sparsify(nn.Linear(30, 40), 0.9, initial="random", verbose=False)
    torch.manual_seed(7)
    other = sparsify(nn.Linear(30, 40), 0.9, initial="random", verbose=False)
    assert isinstance(one, SparseLinear) and torch.equal(one.indices, other.indices)
    largest = sparsify(nn.Linear(30, 40), 0.9, verbose=False)
    assert isinstance(largest, SparseLinear) and not torch.equal(one.indices, largest.indices)
