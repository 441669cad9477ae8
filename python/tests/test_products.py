"""Forward and both gradients against dense layers with zeros."""

import pytest
import torch
import torch.nn.functional as F
from common import close, linear
from topkast.torch import SparseConv2d, functional


def check(layer, dense, x):
    """`dense(x, weight, bias)` with the layer's α must give its output and gradients."""
    x = x.detach().requires_grad_()
    twin = x.detach().clone().requires_grad_()
    weight = layer.to_dense().requires_grad_()
    bias = None if layer.bias is None else layer.bias.detach().clone().requires_grad_()
    y, want = layer(x), dense(twin, weight, bias)
    close(y, want)
    gradient = torch.randn_like(want)
    y.backward(gradient)
    want.backward(gradient)
    close(x.grad, twin.grad)
    # All of B, though the dense twin computes with A alone, as the layer does.
    close(layer.values.grad, weight.grad.flatten()[layer.indices.long()], 3e-5)
    if bias is not None:
        close(layer.bias.grad, bias.grad, 3e-5)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (16, 16), (33, 129), (300, 700)])
@pytest.mark.parametrize("leading", [(), (1,), (17,), (3, 11), (2, 0, 3), (2, 3, 4)])
def test_linear(shape, leading, path):
    forward = 0.0 if shape == (1, 1) else 0.6
    layer = linear(*shape, forward, forward / 2, bias=len(leading) % 2 == 0)
    check(layer, F.linear, torch.randn(*leading, shape[1]))


@pytest.mark.parametrize("backward", [None, 0.5])
@pytest.mark.parametrize("forward", [0.5, 0.9, 0.99])
def test_sparsities(forward, backward):
    check(linear(200, 300, forward, backward), F.linear, torch.randn(50, 300))


@pytest.mark.parametrize("rows, width, positions", [(20, 30, 1030), (20, 30, 3000), (300, 20, 128), (2000, 900, 200), (3, 2, 65)])
def test_positions_in_parts_and_portions(rows, width, positions):
    check(linear(rows, width), F.linear, torch.randn(positions, width))


@pytest.mark.parametrize("rows, width, positions", [(200, 300, 130), (20, 30, 1030), (2000, 900, 200)])
def test_threads_do_not_show(rows, width, positions):
    layer, x = linear(rows, width), torch.randn(positions, width, requires_grad=True)
    layer.bias.data.normal_()
    results = []
    for threads in (1, 2, 3, 17):
        torch.set_num_threads(threads)
        layer.zero_grad()
        x.grad = None
        y = layer(x)
        y.square().sum().backward()
        results.append([tensor.detach().clone() for tensor in (y, x.grad, layer.values.grad, layer.bias.grad)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


CONVOLUTIONS = [
    dict(kernel_size=1),
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=1, stride=2),
    dict(kernel_size=(3, 5), stride=(2, 3), padding=(0, 2)),
    dict(kernel_size=3, dilation=2, padding=2),
    dict(kernel_size=(2, 4), stride=(3, 1), dilation=(1, 2)),
]


@pytest.mark.parametrize("arguments", CONVOLUTIONS)
@pytest.mark.parametrize("images", [0, 1, 3, 16, 17, 48])
def test_convolution(arguments, images, path):
    layer = SparseConv2d(5, 9, **arguments, forward_sparsity=0.5, backward_sparsity=0.2)
    _, stride, padding, dilation = layer.window
    dense = lambda x, w, b: F.conv2d(x, w.view(9, 5, *layer.window[0]), b, stride, padding, dilation)
    if images == 0:
        assert layer(torch.empty(0, 5, 11, 13)).shape == dense(torch.empty(0, 5, 11, 13), layer.to_dense(), None).shape
        return
    check(layer, dense, torch.randn(images, 5, 11, 13))
    # Other maps, and those of before again.
    check_again = torch.randn(2, 5, 12, 9)
    layer.zero_grad()
    check(layer, dense, check_again)
    layer.zero_grad()
    check(layer, dense, torch.randn(images, 5, 11, 13))


def test_non_contiguous_inputs_and_gradients(path):
    layer = linear(20, 30)
    dense = lambda x, w, b: F.linear(x, w, b)
    check(layer, dense, torch.randn(30, 8).T)
    layer.zero_grad()
    x = torch.randn(4, 30, requires_grad=True)
    layer(x).T.sum().backward()
    got = layer.values.grad.clone()
    layer.zero_grad()
    layer(x).backward(torch.ones(4, 20))
    close(got, layer.values.grad)
    convolution = SparseConv2d(3, 4, 3, forward_sparsity=0.5)
    x = torch.randn(2, 3, 7, 7)
    close(convolution(x.to(memory_format=torch.channels_last)), convolution(x))


def test_half_precision_is_computed_in_float32(path):
    layer, x = linear(20, 30), torch.randn(4, 30)
    for dtype in (torch.bfloat16, torch.float16):
        y = layer(x.to(dtype))
        assert y.dtype == dtype
        close(y.float(), layer(x.to(dtype).float()).to(dtype).float())
    layer(x.bfloat16()).sum().backward()
    assert layer.values.grad.dtype == torch.float32


def test_without_gradients(path):
    layer, x = linear(20, 30), torch.randn(4, 30)
    want = layer(x).detach()
    with torch.no_grad():
        assert torch.equal(layer(x), want)
    with torch.inference_mode():
        assert torch.equal(layer(x), want)
    # Frozen values: the input's gradient alone.
    layer.requires_grad_(False)
    x.requires_grad_()
    layer(x).sum().backward()
    close(x.grad, layer.to_dense().sum(0).expand(4, -1))


def test_a_graph_can_be_used_twice():
    layer, x = linear(20, 30), torch.randn(4, 30, requires_grad=True)
    y = layer(x).square().sum()
    y.backward(retain_graph=True)
    once = layer.values.grad.clone()
    y.backward()
    close(layer.values.grad, 2 * once)


def test_values_changed_under_a_graph_are_noticed():
    layer = linear(20, 30)
    y = layer(torch.randn(4, 30))
    with torch.no_grad():
        layer.values.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_gradcheck_in_float64():
    layer = linear(6, 5, 0.4, 0.4, dtype=torch.float64)
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    apply = lambda x, values: functional.linear(x, values, None, layer.indices, layer.active, layer.sets)
    assert torch.autograd.gradcheck(apply, (x, layer.values))
    convolution = SparseConv2d(2, 3, 2, stride=2, padding=1, forward_sparsity=0.4, dtype=torch.float64)
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    apply = lambda x, values: functional.convolution(
        x, values, None, convolution.indices, convolution.active, convolution.sets, convolution.window
    )
    assert torch.autograd.gradcheck(apply, (x, convolution.values))


def test_meta_tensors_have_shapes():
    assert linear(20, 30).to("meta")(torch.empty(2, 3, 30, device="meta")).shape == (2, 3, 20)
    layer = SparseConv2d(3, 4, 3, stride=2, forward_sparsity=0.5).to("meta")
    assert layer(torch.empty(2, 3, 9, 8, device="meta")).shape == (2, 4, 4, 3)


def test_wrong_inputs_are_errors():
    layer = linear(20, 30)
    with pytest.raises(ValueError, match="last dimension of x must be 30"):
        layer(torch.randn(4, 29))
    convolution = SparseConv2d(3, 4, 3, forward_sparsity=0.5)
    with pytest.raises(ValueError, match="3, height, width"):
        convolution(torch.randn(1, 2, 9, 9))
    with pytest.raises(ValueError, match="does not fit"):
        convolution(torch.randn(1, 3, 2, 9))
    with pytest.raises(ValueError, match="sparsity"):
        linear(20, 30, 1.5)
    with pytest.raises(ValueError, match="no active entry"):
        linear(2, 2, 0.9)


@pytest.mark.parametrize("backend", ["aot_eager"])
def test_compiled_layers_are_the_same(backend):
    model = torch.nn.Sequential(SparseConv2d(3, 8, 3, forward_sparsity=0.5), torch.nn.Flatten(), linear(10, 8 * 36))
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    x = torch.randn(5, 3, 8, 8, requires_grad=True)
    y = model(x)
    y.square().sum().backward()
    want = [x.grad.clone()] + [parameter.grad.clone() for parameter in model.parameters()]
    x.grad = None
    model.zero_grad()
    close(compiled(x), y)
    compiled(x).square().sum().backward()
    for got, expected in zip([x.grad] + [parameter.grad for parameter in model.parameters()], want):
        close(got, expected, 3e-5)
