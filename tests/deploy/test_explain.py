"""A layer taken apart adds up to the layer, in every format."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import edgekit
from edgekit.bench.costs import CAUSES, Causes, FunctionCost, LayerCost, sum_of_causes
from edgekit.cli.app import app
from edgekit.cli.explain import LONGEST, explained, headline
from edgekit.cli.render import Format
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.explain import (
    WHOLE_BLOCKS,
    Explanation,
    HotRegion,
    Line,
    find_layer,
    no_cycle_model,
    tracing_device,
    tracing_devices,
)
from edgekit.errors import UnsupportedError, UsageError
from edgekit.targets.c.emit import LayerInfo
from edgekit.targets.target import target
from tests.support.models import tiny_tflite
from tests.support.reports import CYCLE_MODEL


def layers(*names: str) -> tuple[LayerInfo, ...]:
    return tuple(
        LayerInfo(f"net_layer_{i}", name, "conv_2d", "conv_2d_s8", 1, ("y",), (0,))
        for i, name in enumerate(names)
    )


NAMES = layers("conv", "conv_1", "dense/MatMul", "2")


@pytest.mark.parametrize(
    ("wanted", "index"),
    [("conv", 0), ("conv_1", 1), ("MatMul", 2), ("0", 0), (1, 1), ("2", 3), ("3", 3)],
)
def test_layers_are_found(wanted: str | int, index: int) -> None:
    """By name before index, and by a part that no other name has."""
    assert find_layer(NAMES, wanted) == index


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("onv", "'onv' is a part of 2 names"),
        ("dense/Matmul", "there is no layer 'dense/Matmul'; did you mean 'dense/MatMul'"),
        ("4", "there is no layer '4'"),
        (-1, "there is no layer '-1'"),
        ("", "there is no layer ''"),
        ("٢", "there is no layer"),
    ],
)
def test_unknown_layers_are_told_what_there_is(wanted: str | int, words: str) -> None:
    """With every index and name."""
    with pytest.raises(UsageError, match=words) as caught:
        find_layer(NAMES, wanted)
    assert "\n  0  conv (conv_2d)\n  1  conv_1 (conv_2d)\n" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("nucleo-l4r5zi", ("emulator", "qemu")),
        ("cortex-m55", ("qemu",)),
        ("raspberry-pi-4", ("emulator",)),
        ("host", ()),
        ("jetson", ()),
    ],
)
def test_devices_with_a_trace(name: str, devices: tuple[str, ...]) -> None:
    """The best is taken; another one is refused with those there are."""
    where = target(name)
    assert tracing_devices(where) == devices
    if devices:
        assert tracing_device(where, None) == devices[0]
        assert tracing_device(where, devices[-1]) == devices[-1]
        words = f"device local cannot tell .*; of {where.name} {', '.join(devices)} can"
    else:
        words = f"nothing tells what single instructions cost on {where.name}; export for"
        with pytest.raises(UnsupportedError, match=words):
            tracing_device(where, None)
    with pytest.raises(UnsupportedError, match=words):
        tracing_device(where, "local")


def explanation() -> Explanation:
    """Two loops and a rest, made by hand."""
    causes = Causes(issue=100.0, load=50.0, fetch=25.0)
    lines = (
        Line(0x100, "ldr r0, [r1], #4", 50, 125.0, Causes(50.0, 0.0, 50.0, 25.0, 0.0)),
        Line(0x120, "subs r2, #1", 50, 50.0, Causes(issue=50.0)),
    )
    kernel = FunctionCost("net_ek_conv_2d_s8", "kernel", "conv_2d_s8", 100, 175.0, causes)
    rest = FunctionCost("memcpy", "runtime", None, 20, 25.0, Causes(issue=20.0, branch=5.0))
    whole = sum_of_causes([causes, rest.causes])
    return Explanation(
        device="emulator",
        index=3,
        layer=LayerCost(
            "conv",
            "conv_2d",
            100,
            120,
            200.0,
            kernel="conv_2d_s8",
            causes=whole,
            functions=(kernel, rest),
        ),
        share=0.25,
        cycle_model=CYCLE_MODEL,
        regions=(HotRegion(kernel, 2, 5, 50, lines),),
        rest=(rest,),
    )


def test_text_for_people() -> None:
    """Head, instructions with what one execution takes, gaps, and sums."""
    text = explained(explanation(), Format.TABLE)
    for wanted in (
        "3  conv (conv_2d)",
        "25.0% of its cycles",
        f"200 (modelled {CYCLE_MODEL.tag})",
        "cortex-m4: in order, hazards; memory: flash 5 wait states",
        "1. loop, 2 deep, in net_ek_conv_2d_s8 (the kernel conv_2d_s8), 0x100…0x120: "
        "87.5% of the layer, entered 5 times, 50 iterations, 3.5 cycles each",
    ):
        assert wanted in text, wanted
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    head = ["50", "2.5", "1", "·", "1", "0.5", "·", "62.5%"]
    assert rows["0x100"] == ["0x100", "ldr", "r0,", "[r1],", "#4", *head]
    assert rows["0x120"] == ["0x120", "subs", "r2,", "#1", "50", "1", "1", *"····", "25.0%"]
    assert rows["…"] == ["…"]
    assert rows["all"][1:] == ["memcpy", "runtime", "20", "25", "20", *"000", "5", "12.5%"]
    assert rows["layer"][-8:] == ["120", "200", "120", "0", "50", "25", "5", "100.0%"]


def test_long_regions_are_cut_in_text_only() -> None:
    """The cheapest instructions go, and it says how many."""
    found = explanation()
    (region,) = found.regions
    lines = tuple(
        Line(0x100 + 4 * i, f"op {i}", 1, float(i), Causes(issue=float(i)))
        for i in range(LONGEST + 30)
    )
    long = replace(found, regions=(replace(region, lines=lines),))
    text = explained(long, Format.TABLE)
    assert "30 instructions that cost less are left out" in text
    assert "op 29 " not in text
    assert "op 30 " in text
    assert "op 29\n" in explained(long, Format.CSV).replace('"', "").replace(",", "\n")


def test_a_model_of_whole_blocks_has_no_empty_columns() -> None:
    """Cycles of regions, none of single instructions; it says why."""
    found = explanation()
    kernel, rest = (replace(c, causes=None) for c in (found.regions[0].cost, found.rest[0]))
    lines = tuple(replace(x, cycles=None, causes=None) for x in found.regions[0].lines)
    blocks = replace(
        found,
        layer=replace(found.layer, causes=None, functions=(kernel, rest)),
        regions=(replace(found.regions[0], cost=kernel, lines=lines),),
        rest=(rest,),
        notes=(WHOLE_BLOCKS,),
    )
    text = explained(blocks, Format.TABLE)
    assert WHOLE_BLOCKS in text
    (head,) = (line.split() for line in text.splitlines() if line.split()[:1] == ["address"])
    assert head == ["address", "instruction", "executions"]
    assert "arithmetic" not in text
    assert "note" not in explained(found, Format.TABLE)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("aarch64", "nothing models cycles of aarch64; targets with a model: cortex-a53, cortex"),
        ("armv7", "nothing models cycles of armv7; targets with a model: cortex-a53, cortex"),
    ],
)
def test_models_that_are_named_can_be_reached(name: str, words: str) -> None:
    """Every one is a target."""
    text = no_cycle_model(target(name))
    assert text.startswith(words)
    able = text.partition("model: ")[2].split(", ")
    assert all(target(other).has_cycle_model for other in able)
    assert not target(name).has_cycle_model


def test_without_a_model_instructions_count() -> None:
    """Shares are of instructions; nothing claims to be a cycle."""
    found = explanation()
    kernel = replace(found.regions[0].cost, cycles=None, causes=None)
    rest = replace(found.rest[0], cycles=None, causes=None)
    lines = tuple(replace(x, cycles=None, causes=None) for x in found.regions[0].lines)
    layer = replace(found.layer, cycles=None, causes=None, functions=(kernel, rest))
    bare = replace(
        found,
        layer=layer,
        cycle_model=None,
        regions=(replace(found.regions[0], cost=kernel, lines=lines),),
        rest=(rest,),
    )
    text = explained(bare, Format.TABLE)
    assert "25.0% of its instructions" in text
    assert "modelled" not in text
    assert "83.3% of the layer" in headline(bare, bare.regions[0])
    assert "cycles each" not in text


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A convolution and a classifier for a board with slow flash."""
    folder = tmp_path_factory.mktemp("explain")
    (folder / "tiny.tflite").write_bytes(tiny_tflite())
    return edgekit.export(folder / "tiny.tflite", target="nucleo-l4r5zi", output=folder / "out")


def command(artifact: Artifact, *options: str) -> tuple[int, str, str]:
    """Exit code, stdout and what was raised."""
    result = CliRunner().invoke(app, ["-q", "bench", str(artifact.folder), *options])
    return result.exit_code, result.stdout, str(result.exception or "")


@pytest.mark.needs("cortex-m compiler")
@pytest.mark.parametrize("layer", [0, 1])
def test_everything_adds_up(artifact: Artifact, layer: int) -> None:
    """Instructions, cycles and every cause; the layer is the one of the report."""
    found = artifact.explain(layer)
    (run,) = artifact.bench().runs
    assert found.layer == run.layers[layer]
    assert found.cycle_model == run.cycle_model
    parts = [region.cost for region in found.regions] + list(found.rest)
    assert sum(cost.instructions for cost in parts) == found.layer.instructions
    assert sum(cost.cycles or 0 for cost in parts) == pytest.approx(found.layer.cycles)
    assert found.layer.causes is not None
    for cause in CAUSES:
        total = sum(getattr(cost.causes, cause) for cost in parts)
        assert total == pytest.approx(getattr(found.layer.causes, cause))
    for region in found.regions:
        assert sum(line.executions for line in region.lines) == region.cost.instructions
        assert sum(line.cycles or 0 for line in region.lines) == pytest.approx(region.cost.cycles)
    assert sum(found.share_of(cost) for cost in parts) == pytest.approx(1)


@pytest.mark.needs("cortex-m compiler", "qemu-system-arm", "cc")
def test_on_a_device_that_boots_whole_images(tmp_path: Path) -> None:
    """As on the emulator: the same regions of the same code."""
    (tmp_path / "tiny.tflite").write_bytes(tiny_tflite())
    artifact = edgekit.export(tmp_path / "tiny.tflite", target="cortex-m4", output=tmp_path / "out")
    emulated, booted = (artifact.explain(0, device=name) for name in ("emulator", "qemu"))
    assert booted.layer.instructions == emulated.layer.instructions
    assert booted.layer.cycles == emulated.layer.cycles
    assert [region.cost.function for region in booted.regions] == [
        region.cost.function for region in emulated.regions
    ]
    for one, other in zip(booted.regions, emulated.regions, strict=True):
        assert [(x.text, x.executions) for x in one.lines] == [
            (x.text, x.executions) for x in other.lines
        ]


@pytest.mark.needs("cortex-m compiler")
def test_the_hot_loop_is_the_dot_product(artifact: Artifact) -> None:
    """Once for every product of the classifier's 64 inputs, whatever the compiler unrolled."""
    found = artifact.explain("logits", device="emulator")
    hot = found.regions[0]
    assert (hot.cost.kind, hot.cost.kernel) == ("kernel", "fully_connected_s8")
    assert hot.depth > 0
    multiplies = [line for line in hot.lines if line.text.startswith(("mla", "smla", "mul"))]
    assert sum(line.executions for line in multiplies) == 3 * 64
    assert hot.iterations * len(multiplies) == 3 * 64


@pytest.mark.needs("cortex-m compiler")
def test_the_command(artifact: Artifact) -> None:
    """The same figures in every format, and typed errors."""
    found = artifact.explain(0)
    code, text, _ = command(artifact, "--explain", "conv")
    assert code == 0
    assert headline(found, found.regions[0]) in text
    document = json.loads(command(artifact, "--explain", "0", "--format", "json")[1])
    assert document["layer"]["cycles"] == found.layer.cycles
    assert len(document["regions"]) == len(found.regions)
    rows = list(
        csv.DictReader(io.StringIO(command(artifact, *"--explain 0 --format csv".split())[1]))
    )
    assert sum(int(row["executions"]) for row in rows) == found.layer.instructions
    assert sum(float(row["cycles"]) for row in rows) == pytest.approx(found.layer.cycles)
    assert command(artifact, "--explain", "0", "--format", "md")[1].startswith("| region |")


@pytest.mark.needs("cortex-m compiler")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "local"), "device local cannot tell .*; of nucleo-l4r5zi emulator, qemu can"),
        (("--device", "emulator,qemu"), "takes one device"),
        (("--baseline", "fp32"), "takes no --baseline"),
        (("-o", "report.json"), "takes no --output"),
    ],
)
def test_what_cannot_be_explained(artifact: Artifact, options: tuple[str, ...], words: str) -> None:
    """Refused before anything runs."""
    result = CliRunner().invoke(
        app, ["-q", "bench", str(artifact.folder), "--explain", "0", *options]
    )
    with pytest.raises((UsageError, UnsupportedError), match=words):
        raise result.exception or AssertionError(result.output)
