"""``.pt2`` files: what torch.export.save writes is read, what would run is refused unrun."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import EdgekitError, InvalidModelError, UnsupportedError
from edgekit.model.capture import capture_exported, load_pt2
from edgekit.model.capture.quiet import quiet
from edgekit.program.interpret import run
from edgekit.program.lowering import lower

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


class Net(nn.Module):
    """With a region without gradients, a lifted constant, and a dict of results."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor, *, gain: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            y = self.linear(x).relu()
        return {"scaled": y * gain + torch.tensor([1.0, 2.0, 3.0]), "plain": y}


@pytest.fixture(scope="module")
def saved() -> dict[str, bytes]:
    """Members of a sound file with a dynamic batch, without the root folder."""
    torch.manual_seed(0)
    batch = torch.export.Dim("batch", min=1, max=64)
    with quiet():
        program = torch.export.export(
            Net().eval(),
            (torch.randn(2, 4),),
            {"gain": torch.ones(3)},
            dynamic_shapes={"x": {0: batch}, "gain": None},
        )
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def alarm(tmp_path: Path) -> Iterator[Path]:
    """A file that any executed payload would make; it must not be there in the end."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists(), "the payload ran"


def write(path: Path, members: dict[str, bytes], root: str = "net") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{root}/{name}" if root else name, data)
    return path


def changed(data: bytes, change: Callable[[Any], object]) -> bytes:
    document = json.loads(data)
    change(document)
    return json.dumps(document).encode()


def test_reads_what_torch_writes(saved: dict[str, bytes], tmp_path: Path) -> None:
    """The same numbers; a batch left open becomes 1."""
    path = write(tmp_path / "net.pt2", saved)
    model = capture_exported(load_pt2(path), name="net")
    assert [v.name for v in model.ir.graph.inputs] == ["x", "gain"]
    assert [v.name for v in model.ir.graph.outputs] == ["scaled", "plain"]
    with quiet():
        module = torch.export.load(io.BytesIO(path.read_bytes())).module()
    rng = np.random.default_rng(0)
    x, gain = rng.standard_normal((1, 4), np.float32), rng.standard_normal(3, np.float32)
    got = run(lower(model), {"x": x, "gain": gain})
    want = module(torch.from_numpy(x), gain=torch.from_numpy(gain))
    for name, value in got.items():
        assert np.allclose(value, want[name].detach().numpy(), rtol=1e-5, atol=1e-6)


def call(alarm: Path) -> str:
    """Python source that raises the alarm."""
    return f"open({str(alarm)!r}, 'w')"


class Bomb:
    """A pickle that raises the alarm."""

    def __init__(self, alarm: Path) -> None:
        self.alarm = alarm

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.alarm), "w")


def graph(document: Any) -> Any:
    return document["graph_module"]["graph"]


def node(document: Any) -> Any:
    return graph(document)["nodes"][-1]


def symbol(document: Any, text: str) -> None:
    """Put an expression where the batch stands."""
    for value in graph(document)["tensor_values"].values():
        for size in value["sizes"]:
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = text


def tree(document: Any, spec: object) -> None:
    signature = document["graph_module"]["module_call_graph"][0]["signature"]
    signature["out_spec"] = json.dumps([1, spec])


def rename(document: Any, new: str) -> None:
    """Give a value a name that would be source."""
    values = graph(document)["tensor_values"]
    old = node(document)["name"]
    text = json.dumps(document).replace(json.dumps(old), json.dumps(new))
    assert old in values and json.dumps(new) in text
    document.clear()
    document.update(json.loads(text))


def source(alarm: Path) -> str:
    return f"x = 1\n{call(alarm)}\ny"


LEAF: dict[str, object] = {"type": None, "context": None, "children_spec": []}

EVIL_GRAPHS: dict[str, tuple[Callable[[Any, Path], object], str]] = {
    "expression": (lambda d, a: symbol(d, call(a)), "is no simple expression"),
    "expression in a call": (
        lambda d, a: symbol(d, f"Mul(Integer(2), {call(a)})"),
        "is no simple expression",
    ),
    "expression as a symbol": (
        lambda d, a: symbol(d, f'Symbol("s0", positive={call(a)})'),
        "is no simple expression",
    ),
    "expression that grows": (lambda d, a: symbol(d, "9**9**9**9"), "is no simple expression"),
    "target in torch": (lambda d, a: node(d).update(target="torch.os.system"), "is no operator"),
    "target in operator": (
        lambda d, a: node(d).update(target="_operator.__builtins__.exec"),
        "is no operator",
    ),
    "target of another library": (
        lambda d, a: node(d).update(target="torch.ops.evil.run.default"),
        "is no operator of aten, edgekit, quantized_decomposed",
    ),
    "target that maps a file": (
        lambda d, a: node(d).update(target="torch.ops.aten.from_file.default"),
        "does more than compute",
    ),
    "target that writes a file": (
        lambda d, a: node(d).update(target="torch.ops.aten.save.default"),
        "does more than compute",
    ),
    "attribute of an operator": (
        lambda d, a: node(d).update(target="torch.ops.aten.add.__globals__"),
        "has no operator",
    ),
    "extension": (lambda d, a: node(d).update(target="#evil:run"), "is no operator"),
    "name as source": (lambda d, a: rename(d, source(a)), "is no name of a"),
    "argument name as source": (
        lambda d, a: node(d)["inputs"][0].update(name=source(a)),
        "is no name of a value",
    ),
    "field as source": (lambda d, a: graph(d).update({source(a): 1}), "is no name of a field"),
    "parameter as source": (
        lambda d, a: d["graph_module"]["signature"]["input_specs"][0]["parameter"].update(
            parameter_name=f'a").x; {call(a)}; ("'
        ),
        "is no name of a parameter",
    ),
    "forward's arguments as source": (
        lambda d, a: d["graph_module"]["module_call_graph"][0]["signature"].update(
            forward_arg_names=[f"x={call(a)}", "gain"]
        ),
        "is no name of a value",
    ),
    "custom object": (
        lambda d, a: node(d)["inputs"][0].update(arg={"as_custom_obj": {"name": "o"}}),
        "a custom object",
    ),
    "custom object values": (
        lambda d, a: graph(d).update(custom_obj_values={"o": {"name": "o", "class_fqn": "c"}}),
        "holds custom objects",
    ),
    "operator as argument": (
        lambda d, a: node(d)["inputs"][0].update(arg={"as_operator": "torch.os.system"}),
        "an operator as an argument",
    ),
    "tree that imports": (
        lambda d, a: tree(d, LEAF | {"type": "collections.defaultdict", "context": '["os",[]]'}),
        "of type 'collections.defaultdict' cannot be read",
    ),
    "tree with an enum": (
        lambda d, a: tree(
            d,
            {
                "type": "builtins.dict",
                "context": json.dumps([{"__enum__": True, "fqn": "antigravity:A", "name": "B"}]),
                "children_spec": [LEAF],
            },
        ),
        "is no name of a field|fqn|value",
    ),
    "dialect": (lambda d, a: d.update(verifiers=["evil"]), "dialect"),
    "huge number": (
        lambda d, a: node(d)["inputs"][0].update(arg={"as_int": 1 << 4000}),
        "has 4001 bits",
    ),
    "another device": (
        lambda d, a: next(iter(graph(d)["tensor_values"].values()))["device"].update(type="cuda"),
        "exported on 'cuda'; export the module on the CPU",
    ),
    "counter that never ends": (
        lambda d, a: d["range_constraints"].update(u999999999={"min_val": 0, "max_val": 1}),
        "is no name of a symbol",
    ),
}


@pytest.mark.parametrize("name", EVIL_GRAPHS)
def test_evil_graphs(name: str, saved: dict[str, bytes], tmp_path: Path, alarm: Path) -> None:
    change, message = EVIL_GRAPHS[name]
    data = changed(saved[GRAPH], lambda document: change(document, alarm))
    assert json.loads(data) != json.loads(saved[GRAPH])
    path = write(tmp_path / "net.pt2", saved | {GRAPH: data})
    with pytest.raises(EdgekitError, match=message):
        load_pt2(path)


def test_guards_are_left_out(saved: dict[str, bytes], tmp_path: Path, alarm: Path) -> None:
    """They are source that torch executes; a deployed network needs none."""
    data = changed(saved[GRAPH], lambda d: d.update(guards_code=[call(alarm)]))
    program = load_pt2(write(tmp_path / "net.pt2", saved | {GRAPH: data}))
    with quiet():
        program.module()(torch.ones(1, 4), gain=torch.ones(3))


def pickled(config: Any) -> None:
    """Say that a tensor is pickled."""
    next(iter(config["config"].values()))["use_pickle"] = True


def custom(config: Any, file: str) -> None:
    config["config"]["evil"] = {
        "path_name": file,
        "is_param": False,
        "use_pickle": True,
        "tensor_meta": None,
    }


def first_meta(config: Any) -> Any:
    return next(iter(config["config"].values()))["tensor_meta"]


def test_pickles_are_never_opened(saved: dict[str, bytes], tmp_path: Path, alarm: Path) -> None:
    """As a weight, a constant, an opaque object, sample inputs and in the old places."""
    bomb = pickle.dumps(Bomb(alarm))
    buffer = io.BytesIO()
    torch.save(Bomb(alarm), buffer)
    for payload in (bomb, buffer.getvalue()):
        weight = {WEIGHTS: changed(saved[WEIGHTS], pickled), "data/weights/weight_0": payload}
        constant = {
            CONSTANTS: changed(saved[CONSTANTS], pickled),
            "data/constants/tensor_0": payload,
        }
        for extra in (weight, constant):
            with pytest.raises(UnsupportedError, match="is pickled, which is never loaded"):
                load_pt2(write(tmp_path / "net.pt2", saved | extra))
        for member in ("opaque_obj_0", "custom_obj_0"):
            config = changed(saved[CONSTANTS], lambda c, member=member: custom(c, member))
            extra = {CONSTANTS: config, f"data/constants/{member}": payload}
            with pytest.raises(UnsupportedError, match="is a pickled object, which is never"):
                load_pt2(write(tmp_path / "net.pt2", saved | extra))
        for member in ("data/weights/model.pt", "data/constants/model.pt", "data.pkl"):
            with pytest.raises(UnsupportedError, match="never loaded"):
                load_pt2(write(tmp_path / "net.pt2", saved | {member: payload}))
        # Sample inputs are always pickled; they are not needed, so they stay closed.
        load_pt2(write(tmp_path / "net.pt2", saved | {"data/sample_inputs/model.pt": payload}))


@pytest.mark.parametrize(
    ("member", "error", "message"),
    [
        ("data/aotinductor/model/m.so", UnsupportedError, "compiled code of AOTInductor"),
        ("models/other.json", UnsupportedError, "a program that is not called 'model'"),
        ("code/__torch__.py", UnsupportedError, "is TorchScript"),
        ("data/weights/../../../evil", InvalidModelError, "leaves the archive"),
        ("surprise", InvalidModelError, "unknown member 'surprise'"),
    ],
)
def test_unknown_members(
    member: str, error: type[EdgekitError], message: str, saved: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        load_pt2(write(tmp_path / "net.pt2", saved | {member: b""}))


def test_broken_archives(saved: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    with pytest.raises(InvalidModelError, match="does not exist or is no file"):
        load_pt2(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(InvalidModelError, match=r"is no archive of torch\.export\.save"):
        load_pt2(path)
    for members, message in (
        ({}, "must be unique and lie in one folder"),
        (saved | {"archive_format": b"pt3"}, r"is no archive of torch\.export\.save"),
        (saved | {"byteorder": b"big"}, "must be little-endian"),
        (saved | {GRAPH: b"{"}, "is not JSON"),
        (saved | {GRAPH: b"[" * 100_000}, "is not JSON"),
        (saved | {GRAPH: b"[]"}, "graph_module is malformed"),
        ({k: v for k, v in saved.items() if k != WEIGHTS}, "is missing"),
    ):
        with pytest.raises((InvalidModelError, UnsupportedError), match=message):
            load_pt2(write(path, members))
    with pytest.raises(UnsupportedError, match="form of torch 2.7 and older; load it there"):
        load_pt2(write(path, {"serialized_exported_program.json": b"", "version": b"8.1"}, ""))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/archive_format", b"pt2")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("net/archive_format", b"pt2")
    with pytest.raises(InvalidModelError, match="must be unique"):
        load_pt2(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_compressions(saved: dict[str, bytes], tmp_path: Path, method: int) -> None:
    """Damaged or not: only what torch writes, and what packers make of it, is unpacked."""
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in saved.items():
            archive.writestr(f"net/{name}", content)
    data = path.read_bytes()
    for content in (data, data[:60] + bytes(b ^ 0x5A for b in data[60:120]) + data[120:]):
        path.write_bytes(content)
        with pytest.raises(InvalidModelError, match="must be stored or deflated"):
            load_pt2(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in saved.items():
            archive.writestr(f"net/{name}", content)
    assert load_pt2(path).graph_signature.user_inputs


def test_size_bombs(saved: dict[str, bytes], tmp_path: Path) -> None:
    """A declared size beyond the limit is refused before anything is read."""
    path = write(tmp_path / "net.pt2", saved)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        directory = archive.start_dir
    # Field of the central directory's first entry: its size when unpacked.
    struct.pack_into("<I", data, directory + 24, 0xFFFFFFF0)
    path.write_bytes(data)
    with pytest.raises(InvalidModelError, match="at most 100000 of 2147483648 together are read"):
        load_pt2(path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: first_meta(c).update(sizes=[{"as_int": 9}, {"as_int": 9}]), None, "within its"),
        (lambda c: first_meta(c).update(storage_offset={"as_int": 1}), None, "lie within its"),
        (lambda c: first_meta(c).update(strides=[{"as_int": -4}, {"as_int": 1}]), None, "static"),
        (lambda c: first_meta(c).update(sizes=[{"as_int": 2**30}] * 2), None, "has shape"),
        (lambda c: first_meta(c).update(sizes=[{"as_expr": {}}]), None, "static extent"),
        (lambda c: first_meta(c).update(dtype=99), UnsupportedError, "element type 99"),
        (lambda c: first_meta(c)["device"].update(type="cuda"), UnsupportedError, "on the CPU"),
        (
            lambda c: next(iter(c["config"].values())).update(path_name="../../passwd"),
            None,
            "is no payload of the archive",
        ),
        (lambda c: c.update(config=[]), None, "is malformed"),
        (lambda c: c["config"].update({"a b": {}}), None, "is malformed"),
    ],
)
def test_tensors_outside_their_payload(
    change: Callable[[Any], object],
    error: type[EdgekitError] | None,
    message: str,
    saved: dict[str, bytes],
    tmp_path: Path,
) -> None:
    data = changed(saved[WEIGHTS], change)
    with pytest.raises(error or InvalidModelError, match=message):
        load_pt2(write(tmp_path / "net.pt2", saved | {WEIGHTS: data}))


def test_our_alarm_works(saved: dict[str, bytes], tmp_path: Path) -> None:
    """Torch's own loader does run such a pickle: the tests above can fail."""
    executed = tmp_path / "executed"
    buffer = io.BytesIO()
    torch.save(Bomb(executed), buffer)
    members = saved | {"data/sample_inputs/model.pt": buffer.getvalue()}
    path = write(tmp_path / "net.pt2", members)
    with quiet(), pytest.raises(AssertionError):
        torch.export.load(path)
    assert executed.exists()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the texts of a document are."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))
        elif isinstance(item, str):
            yield (*path, key)


def test_no_text_is_executed(saved: dict[str, bytes], tmp_path: Path, alarm: Path) -> None:
    """Every kind of text in the graph replaced by source, in the forms that its readers execute."""
    document = json.loads(saved[GRAPH])
    by_kind = {
        tuple(key for key in path if isinstance(key, str)): path for path in places(document)
    }
    assert len(by_kind) > 25
    for path in by_kind.values():
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        kept = holder[path[-1]]
        for text in (call(alarm), source(alarm), f'"); {call(alarm)}; ("', "torch.os.system"):
            holder[path[-1]] = text
            data = json.dumps(document).encode()
            path_of_file = write(tmp_path / "net.pt2", saved | {GRAPH: data})
            try:
                program = load_pt2(path_of_file)
            except EdgekitError:
                continue
            with quiet():
                program.module()
        holder[path[-1]] = kept


def test_training_mode_is_named(tmp_path: Path) -> None:
    """The usual mistake, with what to do about it."""
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    with quiet():
        torch.export.save(torch.export.export(module, (torch.randn(2, 4),)), tmp_path / "net.pt2")
    with pytest.raises(UnsupportedError, match=r"training mode; call model\.eval\(\) before"):
        capture_exported(load_pt2(tmp_path / "net.pt2"), name="net")
