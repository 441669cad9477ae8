"""Attention as one operation, beside the same by PyTorch's operators."""

import pytest
import torch
from common import close
from torch import nn

from topkast.torch import sparsify
from topkast.torch import attention as attention_module


def attention(width, heads, **named):
    dense = nn.MultiheadAttention(width, heads, **named)
    return sparsify(nn.ModuleList([dense]), 0.5, 0.2, keep_ends=False, verbose=False)[0]


def mask_of(length):
    return nn.Transformer.generate_square_subsequent_mask(length)


def results(layer, x, causal):
    """Output and gradients of x and all parameters."""
    length = x.shape[-2] if layer.batch_first or x.dim() == 2 else x.shape[0]
    y, weights = layer(x, x, x, need_weights=False, attn_mask=mask_of(length) if causal else None, is_causal=causal)
    assert weights is None
    loss = y.mul(torch.arange(y.numel()).view(y.shape).remainder(7)).sum()
    return [y, *torch.autograd.grad(loss, [x, *layer.parameters()])]


@pytest.fixture
def operators(monkeypatch):
    """Has attention computed by operators from then on."""
    return lambda: monkeypatch.setattr(attention_module, "two_layers", lambda *_: None)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("width, heads", [(2, 1), (15, 3), (64, 4), (34, 2)])
@pytest.mark.parametrize("batch, length", [(1, 1), (3, 17), (2, 150), (70, 5)])
def test_it_is_what_the_operators_are(causal, batch_first, width, heads, batch, length, operators):
    layer = attention(width, heads, batch_first=batch_first, bias=width != 15)
    for parameter in layer.parameters():
        parameter.data.normal_(std=0.3)
    x = torch.randn(batch, length, width)
    x = (x if batch_first else x.transpose(0, 1)).requires_grad_()
    got = results(layer, x, causal)
    operators()
    for one, want in zip(got, results(layer, x, causal), strict=True):
        close(one, want, 3e-5)


def test_threads_do_not_show():
    layer, x = attention(48, 4, batch_first=True), torch.randn(40, 33, 48, requires_grad=True)
    all_results = []
    for threads in (1, 2, 3, 17):
        torch.set_num_threads(threads)
        all_results.append(results(layer, x, True))
    for other in all_results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(all_results[0], other))


def test_one_sequence_without_a_batch(operators):
    layer, x = attention(12, 2), torch.randn(9, 12, requires_grad=True)
    got = results(layer, x, False)
    assert got[0].shape == (9, 12)
    operators()
    for one, want in zip(got, results(layer, x, False), strict=True):
        close(one, want)


def test_what_the_kernels_do_not_know_goes_to_the_operators(monkeypatch):
    joined = []
    monkeypatch.setattr(attention_module, "two_layers", lambda *_: joined.append(1))
    layer, x = attention(12, 2, batch_first=True), torch.randn(3, 9, 12)
    padding = torch.zeros(3, 9, dtype=torch.bool)
    layer(x, x, x)
    layer(x, x.clone(), x, need_weights=False)
    layer(x, x, x, key_padding_mask=padding, need_weights=False)
    layer(x, x, x, attn_mask=mask_of(9), need_weights=False)
    layer(x[:0], x[:0], x[:0], need_weights=False)
    assert not joined
    layer(x, x, x, need_weights=False)
    assert len(joined) == 1


def test_dropout_drops_so_many_weights_and_keeps_the_mean():
    length = 96
    layer = attention(length, 1, batch_first=True, dropout=0.25, bias=False)
    diagonal = torch.arange(length) * (length + 1)
    # Queries and keys are zero and values the inputs, so that each query's output is its weights: equal, but for dropout.
    layer.in_proj.set_entries(2 * length * length + diagonal, torch.ones(length))
    layer.out_proj.set_entries(diagonal, torch.ones(length))
    x = torch.eye(length).expand(40, -1, -1)
    y, _ = layer(x, x, x, need_weights=False)
    close(y.unique(), torch.tensor([0.0, 1 / 0.75 / length]))
    dropped = (y == 0).float()
    assert abs(float(dropped.mean()) - 0.25) < 0.01
    # No query, key or sequence drops out whole, and no two are alike.
    assert dropped.mean(0).max() < 0.7 and dropped.mean(1).max() < 0.5 and dropped.mean(2).max() < 0.5
    assert not torch.equal(y, layer(x, x, x, need_weights=False)[0])
    close(layer.eval()(x, x, x, need_weights=False)[0], torch.full_like(y, 1 / length))


@pytest.mark.parametrize("causal", [False, True])
def test_the_gradient_with_dropout_is_what_differences_say(causal):
    layer, x = attention(16, 2, batch_first=True, dropout=0.3), torch.randn(3, 21, 16)
    for parameter in layer.parameters():
        parameter.data.normal_(std=0.3)

    def loss(x):
        torch.manual_seed(5)
        y, _ = layer(x, x, x, need_weights=False, attn_mask=mask_of(21) if causal else None, is_causal=causal)
        return y.mul(torch.arange(y.numel()).view(y.shape).remainder(7)).sum()

    start = x.clone().requires_grad_()
    [gradient] = torch.autograd.grad(loss(start), [start])
    for _ in range(5):
        along = torch.randn_like(x)
        with torch.no_grad():
            difference = (loss(x + 1e-2 * along).double() - loss(x - 1e-2 * along).double()) / 2e-2
        want = (gradient * along).sum()
        assert abs(float(difference - want)) < 1e-2 * float(gradient.norm() * along.norm())


def test_long_sequences_are_stable(operators):
    layer, x = attention(16, 2, batch_first=True), torch.randn(1, 1500, 16)
    x = (100 * x).requires_grad_()
    got = results(layer, x, True)
    assert all(one.isfinite().all() for one in got)
    operators()
    close(got[0], results(layer, x, True)[0], 1e-4)
