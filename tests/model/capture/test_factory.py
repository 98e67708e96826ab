"""Modules by name, and their weights from a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgekit.errors import InvalidModelError, UsageError
from edgekit.model.capture import load_weights, make_module
from edgekit.model.capture.quiet import quiet

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

SOURCE = """
import torch
from torch import nn

INSTANCE = nn.Linear(2, 2)
NUMBER = 3


def net(width=4, *, activation="relu"):
    assert isinstance(width, int) and isinstance(activation, str)
    return nn.Sequential(nn.Linear(2, width), nn.ReLU())


def with_example():
    return nn.Linear(2, 2), torch.ones(1, 2)


def attribute():
    module = nn.Linear(2, 2)
    module.example_inputs = torch.zeros(1, 2)
    return module


def broken():
    raise KeyError("width")


def wrong():
    return 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with modules of the user's own in it."""
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    (tmp_path / "mynets").mkdir()
    (tmp_path / "mynets" / "__init__.py").write_text("")
    (tmp_path / "mynets" / "small.py").write_text(SOURCE)
    (tmp_path / "failing.py").write_text("import math\n1 / 0\n")
    (tmp_path / "needy.py").write_text("import absent_library\n")
    yield tmp_path
    assert sys.path == path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("mynets", "failing", "needy"):
            del sys.modules[name]


def test_makes_modules(here: Path) -> None:
    made = make_module("mynets.small:net", {"width": "8", "activation": "tanh"})
    assert made.module[0].out_features == 8
    assert made.example_inputs is None
    again = make_module("mynets.small:net", {"width": "8"})
    assert torch.equal(made.module[0].weight, again.module[0].weight), "seeded"
    other = make_module("mynets.small:net", {"width": "8"}, seed=1)
    assert not torch.equal(made.module[0].weight, other.module[0].weight)
    assert make_module("mynets.small:with_example", {}).example_inputs.tolist() == [[1, 1]]
    assert make_module("mynets.small:attribute", {}).example_inputs.tolist() == [[0, 0]]
    assert isinstance(make_module("mynets.small:INSTANCE", {}).module, nn.Linear)


@pytest.mark.parametrize(
    ("reference", "arguments", "message"),
    [
        ("mynets.small", {}, "must read package.module:factory"),
        ("mynets.smal:net", {}, r"no module 'mynets.smal' in .*; did you mean mynets\.small\?"),
        ("mynet.small:net", {}, r"no module 'mynet' in .*; did you mean mynets\?"),
        ("mynets.small:nett", {}, r"has no 'nett'; did you mean net\?"),
        ("mynets.small:NUMBER", {}, "is a int, must be a function"),
        ("mynets.small:wrong", {}, r"returns int, must return a torch\.nn\.Module"),
        ("mynets.small:broken", {}, r"broken fails at .*small\.py:2\d: `raise.*KeyError: 'width'"),
        ("mynets.small:net", {"widht": "3"}, "unexpected keyword.*did you mean 'width'"),
        ("mynets.small:INSTANCE", {"a": "1"}, "is a module, not a factory"),
        ("failing:net", {}, r"importing failing fails at .*failing\.py:2: `1 / 0`: ZeroDiv"),
        ("needy:net", {}, r"importing needy fails at .*needy\.py:1.*absent_library"),
    ],
)
def test_what_is_no_factory(
    here: Path, reference: str, arguments: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_module(reference, arguments)


def test_weights_are_strict(tmp_path: Path) -> None:
    """All of the state, nothing else, of the same shapes and types; nothing is changed before."""
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    wanted = {name: torch.full_like(t, 2) for name, t in module.state_dict().items()}
    path = tmp_path / "w.safetensors"
    save_file(wanted, path)
    load_weights(module, path)
    assert all(torch.equal(t, wanted[name]) for name, t in module.state_dict().items())
    bad = dict(wanted)
    del bad["0.bias"]
    bad["extra"] = torch.zeros(1)
    bad["0.weight"] = torch.zeros(3, 3)
    bad["1.weight"] = torch.zeros(3, dtype=torch.float16)
    save_file(bad, path)
    with pytest.raises(UsageError, match=r"w\.safetensors does not fit Sequential") as caught:
        load_weights(module, path)
    for line in (
        "0.bias is missing",
        "extra is not expected",
        "0.weight is float32[3, 3], must be float32[3, 2]",
        "1.weight is float16[3], must be float32[3]",
    ):
        assert f"\n  {line}" in str(caught.value)
    assert all(torch.equal(t, wanted[name]) for name, t in module.state_dict().items())


def test_shared_weights_may_be_left_out(tmp_path: Path) -> None:
    """A tensor that is another one in the module comes with it."""
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    save_file({"0.weight": torch.ones(2, 2)}, tmp_path / "w.safetensors")
    load_weights(module, tmp_path / "w.safetensors")
    assert module[1].weight.tolist() == [[1, 1], [1, 1]]


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"a pickle, which is never loaded; convert it with safe"):
        load_weights(module, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="must be a .safetensors file"):
        load_weights(module, tmp_path / "w.npz")
    with pytest.raises(InvalidModelError, match="does not exist"):
        load_weights(module, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(InvalidModelError, match=r"is no valid \.safetensors file"):
        load_weights(module, tmp_path / "w.safetensors")


def test_quiet_restores(capfd: pytest.CaptureFixture[str]) -> None:
    """Silence ends with the block."""
    with quiet():
        sys.stdout.write("lost")
    sys.stdout.write("kept")
    assert capfd.readouterr().out == "kept"


def test_what_a_factory_prints_is_no_result(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout only results; a user's words go to stderr."""
    source = SOURCE + "print('imported')\n\ndef talking():\n    print('made')\n    return net()\n"
    (here / "mynets" / "small.py").write_text(source)
    make_module("mynets.small:talking", {})
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "imported\nmade\n"
