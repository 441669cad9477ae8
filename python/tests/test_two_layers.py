"""What the extension takes for two layers and what is between them, and what it keeps."""

import pytest
import torch
from common import close, linear
from torch import nn

from topkast._topkast import Between
from topkast.torch import sparsify
from topkast.torch.two_layers import two_layers


@pytest.mark.parametrize(
    "make, problem",
    [
        (lambda: Between.activation("tanh"), "must be relu or gelu"),
        (lambda: Between.activation("relu", (1, 1.0)), "below 1, not 1"),
        (lambda: Between.activation("relu", (1, float("nan"))), "below 1, not NaN"),
        (lambda: Between.attention(0, 5, False), "at least one head"),
        (lambda: Between.attention(2, 0, False), "at least one head and one position"),
        (lambda: Between.attention(2, 5, False, (1, -0.5)), "below 1, not -0.5"),
    ],
)
def test_wrong_things_between_are_errors(make, problem):
    with pytest.raises(ValueError, match=problem):
        make()


@pytest.mark.parametrize(
    "units, inputs, between, problem",
    [
        (30, 31, Between.activation("relu"), "has 31 inputs, not 30"),
        (30, 30, Between.attention(2, 3, False), "has 30 inputs, not 10"),
        (31, 10, Between.attention(2, 3, False), "31 outputs are not queries, keys and values of 2 heads"),
        (30, 10, Between.attention(3, 3, False), "30 outputs are not queries, keys and values of 3 heads"),
        (30, 10, Between.attention(2, 5, False), "whole streams"),
        (30, 10, Between.attention(2, 1 << 62, True), "whole streams"),
    ],
)
def test_layers_that_do_not_fit_are_errors(units, inputs, between, problem):
    with pytest.raises(ValueError, match=problem):
        two_layers(torch.randn(9, 7), linear(units, 7), linear(8, inputs), lambda: between)


def test_what_is_kept_is_the_hidden_units():
    first, second, x = linear(256, 16), linear(16, 256), torch.randn(1024, 16)
    units = 4 * 256 * 1024
    kept = {}
    for name in ("relu", "gelu"):
        kept[name] = two_layers(x, first, second, lambda: Between.activation(name)).grad_fn.hidden.nbytes
    assert units <= kept["relu"] < 1.2 * units and 2 * units <= kept["gelu"] < 2.4 * units
    with torch.no_grad():
        assert two_layers(x, first, second, lambda: Between.activation("relu")).grad_fn is None


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_compilers_see_the_layers_one_by_one(dropout):
    layers = [nn.Linear(32, 64), nn.GELU(), nn.Dropout(dropout), nn.Linear(64, 16), nn.Linear(16, 5)]
    block = nn.TransformerEncoderLayer(32, 4, 64, dropout, "gelu", batch_first=True)
    for model in (nn.Sequential(*layers), block):
        sparsify(model, 0.6, 0.3, verbose=False)
        compiled, x = torch.compile(model, backend="aot_eager", fullgraph=True), torch.randn(3, 7, 32)
        assert compiled(x).shape[:2] == (3, 7)
        model.eval()
        close(compiled(x), model(x), 1e-4)


def test_nothing_is_drawn_where_the_layers_are_called():
    layer, x = linear(8, 7), torch.randn(9, 7)
    layer.register_forward_hook(lambda *_: None)
    between = lambda: pytest.fail("what is between is made")
    assert two_layers(x, layer, linear(6, 8), between) is None
