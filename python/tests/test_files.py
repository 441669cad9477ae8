"""The sparse format of docs/export.md, there and back."""

import json

import pytest
import torch
from common import close, linear
from torch import nn
from topkast.torch import RigL, TopKAST, load_sparse, save_sparse, sparsify
from topkast.torch.files import gaps_of, indices_of


class Mlp(nn.Module):
    """With the names of topkast's own."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(20, 30), nn.Linear(30, 30)])
        self.output = nn.Linear(30, 4)

    def forward(self, x):
        for layer in self.hidden:
            x = layer(x).relu()
        return self.output(x)


def read_as_documented(path):
    """The reader of docs/export.md, which shares nothing with ours."""
    import numpy

    raw = open(path, "rb").read()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    export = json.loads(header.pop("__metadata__")["topkast-export"])
    types = {"F32": "<f4", "U8": "<u1", "U16": "<u2", "U32": "<u4"}
    part = lambda tensor: raw[start + tensor["data_offsets"][0] : start + tensor["data_offsets"][1]]
    tensors = {name: numpy.frombuffer(part(it), types[it["dtype"]]).reshape(it["shape"]) for name, it in header.items()}
    for name, shape in export["sparse"].items():
        values, gaps = tensors.pop(name + ".values"), tensors.pop(name + ".gaps")
        entry = gaps < numpy.iinfo(gaps.dtype).max
        tensors[name] = numpy.zeros(shape, numpy.float32)
        tensors[name].flat[(numpy.cumsum(gaps + entry.astype(numpy.uint64)) - 1)[entry]] = values
    return export, tensors


@pytest.fixture
def saved(tmp_path):
    model = sparsify(Mlp(), 0.8, 0.6, verbose=False)
    path = tmp_path / "model.safetensors"
    save_sparse(model, path, {"model": {"kind": "mlp", "hidden": [30, 30]}, "step": 7})
    return model, path


def test_the_documented_reader_reads_it(saved):
    model, path = saved
    export, tensors = read_as_documented(path)
    assert export["format"] == "sparse" and export["version"] == 1 and export["step"] == 7
    assert export["model"]["hidden"] == [30, 30]
    assert set(tensors) == {f"{name}.{part}" for name in ("hidden.0", "hidden.1", "output") for part in ("weight", "bias")}
    close(torch.from_numpy(tensors["hidden.0.weight"].copy()), model.hidden[0].to_dense())
    assert not list(path.parent.glob("*.part"))


def test_models_read_it(saved):
    model, path = saved
    x = torch.randn(5, 20)
    want = model(x)
    sparse = sparsify(Mlp(), 0.9, verbose=False)
    assert load_sparse(sparse, path)["step"] == 7
    close(sparse(x), want)
    # Into a dense model, and with any topology but one that needs C.
    dense = Mlp()
    load_sparse(dense, path)
    close(dense(x), want)
    with pytest.raises(ValueError, match="C's values are not known"):
        TopKAST(sparse)
    RigL(sparse, torch.optim.SGD(sparse.parameters(), lr=0.1), end=10)


def test_convolutions_and_one_layer(tmp_path):
    path = tmp_path / "x"
    convolutions = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3))
    model = sparsify(convolutions, 0.7, keep_ends=False, verbose=False).eval()
    save_sparse(model, path)
    assert read_as_documented_shape(path) == {"0.weight": [8, 27], "2.weight": [4, 72]}
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)).eval()
    load_sparse(other, path)
    x = torch.randn(2, 3, 8, 8)
    close(other(x), model(x))
    one, again = linear(5, 6), linear(5, 6)
    save_sparse(one, path)
    load_sparse(again, path)
    close(again(x := torch.randn(2, 6)), one(x))


def read_as_documented_shape(path):
    raw = open(path, "rb").read()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return json.loads(header["__metadata__"]["topkast-export"])["sparse"]


@pytest.mark.parametrize("step", [1, 3, 254, 255, 256, 600, 70_000])
def test_gaps(step):
    indices = torch.cumsum(torch.randint(1, step + 1, (200,)), 0) - 1
    kind, gaps = gaps_of(indices)
    assert torch.equal(indices_of(gaps, int(indices[-1]) + 1, "x"), indices)
    assert step > 255 or kind == "U8"
    with pytest.raises(ValueError, match="outside"):
        indices_of(gaps, int(indices[-1]), "x")
    assert indices_of(gaps_of(indices[:0])[1], 5, "x").numel() == 0


def test_other_files_are_errors(saved, tmp_path):
    model, path = saved
    raw = path.read_bytes()
    bad = tmp_path / "bad"
    for content in (b"", b"x" * 7, raw[:50], raw[:-1], raw[:8] + b"{}" + raw[10:], (1 << 60).to_bytes(8, "little") + raw[8:]):
        bad.write_bytes(content)
        with pytest.raises(ValueError):
            load_sparse(model, bad)
    shape = b'weight\\": [30, 30]'
    for before, after in [
        (b'version\\": 1', b'version\\": 9'),
        (b'"F32"', b'"F99"'),
        (b"0.weight.gaps", b"9.weight.gaps"),
        (shape, shape.replace(b" 30", b"1.5")),
        (shape, shape.replace(b"30, 30", b"900000")),
    ]:
        assert before in raw
        bad.write_bytes(raw.replace(before, after, 1))
        with pytest.raises(ValueError):
            load_sparse(model, bad)
    with pytest.raises(ValueError, match="shape"):
        other = Mlp()
        other.hidden[0] = nn.Linear(21, 30)
        load_sparse(sparsify(other, 0.8, verbose=False), path)
