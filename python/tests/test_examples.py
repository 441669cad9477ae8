"""The examples run, and learn."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_mlp():
    assert example("mlp").main(600) > 0.9


def test_gpt(capsys):
    example("gpt").main(str(Path(__file__).parent.parent.parent / "README.md"), 50)
    assert float(capsys.readouterr().out.splitlines()[-1].split()[2]) < 7


def test_resnet(capsys):
    pytest.importorskip("torchvision")
    example("resnet").main(2)
    assert "layer4.1.conv2" in capsys.readouterr().out


def test_they_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 60, path
