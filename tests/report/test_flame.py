"""The drawing is the figures: widths are cycles, colours are causes, nothing is left out unsaid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from edgekit.bench.costs import CAUSES, Causes, FunctionCost, LayerCost
from edgekit.report.causes import UNKNOWN, Slice, cause_charts
from edgekit.report.flame import THINNEST, Box, FlameGraph, flame_graph
from edgekit.report.html import html_report
from tests.support.reports import CYCLE_MODEL, MEASURED, MODELLED, report_with


def network(*layers: Sequence[float]) -> tuple[LayerCost, ...]:
    """Layers whose functions take so many cycles: the first a kernel, then runtime."""
    return tuple(
        LayerCost(
            f"layer {index}",
            "conv_2d",
            100,
            int(sum(functions)),
            sum(functions),
            kernel="conv_2d_s8",
            causes=Causes(issue=sum(functions)),
            functions=tuple(
                FunctionCost(
                    f"f{number}",
                    "runtime" if number else "kernel",
                    None if number else "conv_2d_s8",
                    int(cycles),
                    cycles,
                    Causes(issue=cycles),
                )
                for number, cycles in enumerate(functions)
            ),
        )
        for index, functions in enumerate(layers)
    )


def graph_of(*layers: Sequence[float]) -> FlameGraph:
    graph = flame_graph(
        replace(MODELLED, layers=network(*layers), cycles=None, causes=None, cycle_model=None)
    )
    assert graph is not None
    return graph


def places(boxes: Sequence[Box]) -> list[tuple[str, float, float]]:
    return [(box.name, box.x, box.width) for box in boxes]


def test_width_is_cycles() -> None:
    """Every level fills what is above it, in the order of execution, then of expense."""
    network_level, layers, functions = graph_of((30, 20), (50,)).levels
    assert places(network_level.boxes) == [("2 layers", 0, 100)]
    assert places(layers.boxes) == [("0 conv_2d", 0, 50), ("1 conv_2d", 50, 50)]
    assert places(functions.boxes) == [
        ("conv_2d_s8", 0, 30),
        ("f1", 30, 20),
        ("conv_2d_s8", 50, 50),
    ]


def test_height_is_causes() -> None:
    """From the top, the whole of a box; the upper part has the colour of the largest."""
    graph = flame_graph(MODELLED)
    assert graph is not None
    layers = graph.levels[1].boxes
    conv = MODELLED.layers[0]
    assert conv.causes is not None
    assert layers[0].slices == (
        Slice(0, 70, "issue"),
        Slice(70, 3.333, "arithmetic"),
        Slice(73.333, 11.667, "load"),
        Slice(85.001, 9.167, "fetch"),
        Slice(94.167, 5.833, "branch"),
    )
    assert {box.cause for level in graph.levels for box in level.boxes} == {"issue"}
    waits = replace(conv, causes=Causes(fetch=600_000.0))
    drawn = flame_graph(replace(MODELLED, layers=(waits,), cycles=None, causes=None))
    assert drawn is not None
    assert drawn.levels[1].boxes[0].cause == "fetch"


def test_titles_say_everything() -> None:
    """Names that were shortened, cycles, causes, share."""
    long = "functional_1/" * 20 + "conv"
    layers = (replace(MODELLED.layers[0], operation=long), MODELLED.layers[1])
    graph = flame_graph(replace(MODELLED, layers=layers))
    assert graph is not None
    box = graph.levels[1].boxes[0]
    assert "600,000 cycles (issue 70.0 %, arithmetic 3.3 %, load 11.7 %" in box.title
    assert "98.5 % of the network" in box.title
    assert box.title.endswith(long[-100:])


def test_what_is_too_thin_is_drawn_together() -> None:
    """Neighbours as one box as wide as they are; it says so, and names them."""
    thin = [(THINNEST / 4,)] * 3
    graph = graph_of((50,), *thin, (49, 0.1, 0.1, 0.1), (0.1,))
    layers, functions = graph.levels[1].boxes, graph.levels[2].boxes
    assert [box.name for box in layers] == [
        "0 conv_2d",
        "1–3 3 layers",
        "4 conv_2d",
        "5 conv_2d",
    ]
    assert [box.name for box in functions] == [
        "conv_2d_s8",
        "3 functions",
        "conv_2d_s8",
        "3 functions",
        "conv_2d_s8",
    ]
    assert "layer 1, layer 2, layer 3" in layers[1].title
    assert "f1, f2, f3" in functions[3].title
    assert "thinner than 0.5 %" in graph.joined
    for level in graph.levels:
        assert sum(box.width for box in level.boxes) == pytest.approx(100, abs=0.01)
        for one, other in zip(level.boxes, level.boxes[1:], strict=False):
            assert one.x + one.width == pytest.approx(other.x, abs=0.002)
    assert graph_of((50,), (50,)).joined == ""


def test_a_model_without_causes_has_a_colour_of_its_own() -> None:
    """Blocks with cycles only: a graph, no bars by cause, and the bars of layers instead."""
    layers = tuple(
        replace(
            layer,
            causes=None,
            functions=tuple(replace(cost, causes=None) for cost in layer.functions),
        )
        for layer in MODELLED.layers
    )
    run = replace(MODELLED, layers=layers, causes=None)
    graph = flame_graph(run)
    assert graph is not None
    assert graph.causes == ()
    boxes = [box for level in graph.levels for box in level.boxes]
    assert {box.cause for box in boxes} == {UNKNOWN}
    assert not any(box.slices for box in boxes), "no lower part"
    assert "divided by cause" not in graph.note
    assert "tells no causes" in graph.note
    known = flame_graph(MODELLED)
    assert known is not None
    assert "divided by cause" in known.note
    assert cause_charts(run) == ()
    text = html_report([report_with(run)])
    assert "Flame graph of cycles" in text
    assert "Cycles of each layer" in text
    assert "Cycles by kernel" not in text
    drawn = text.partition('class="level functions"')[2].partition("</figure>")[0]
    assert 'class="issue"' not in drawn
    assert 'height="64%"' not in drawn


def test_nothing_is_drawn_of_a_run_without_cycles() -> None:
    """Times of layers are no cycles; a layer without functions cannot be drawn below."""
    assert flame_graph(MEASURED) is None
    assert cause_charts(MEASURED) == ()
    bare = tuple(replace(layer, functions=()) for layer in MODELLED.layers)
    assert flame_graph(replace(MODELLED, layers=bare)) is None
    assert [chart.title for chart in cause_charts(replace(MODELLED, layers=bare))] == [
        "Cycles of each layer",
        "Cycles by kernel",
    ]


def test_bars_are_by_layer_kernel_and_function() -> None:
    """All of the same cycles; each chart says how they came about."""
    charts = cause_charts(MODELLED)
    assert [chart.title for chart in charts] == [
        "Cycles of each layer",
        "Cycles by kernel",
        "Cycles by function",
    ]
    assert [[bar.value.partition(" ")[0] for bar in chart.bars] for chart in charts] == [
        ["600,000", "8,888"],
        ["600,000", "8,888"],
        ["550,000", "49,985", "8,000", "888", "15"],
    ]
    layers, kernels, functions = charts
    assert functions.bars[-1].label == "layers’ own functions"
    assert [bar.label for bar in layers.bars] == ["0 conv", "1 dense"]
    assert kernels.bars[0].detail == "1 layer · 8.57 cycles/MAC"
    for chart in charts:
        assert CYCLE_MODEL.tag in chart.note
        assert chart.rest == ""


def test_a_function_of_several_layers_is_one_bar() -> None:
    """And so is a kernel; what does not fit is summed up."""
    run = replace(
        MODELLED, layers=network(*[(10, 5)] * 50), cycles=None, causes=None, cycle_model=None
    )
    layers, kernels, functions = cause_charts(run)
    assert len(layers.bars) == 40
    assert layers.rest == "10 smaller ones take 20 %"
    assert [(bar.label, bar.value) for bar in kernels.bars] == [("conv_2d_s8", "750 · 100.0 %")]
    assert kernels.bars[0].detail.startswith("50 layers")
    assert [(bar.label, bar.value) for bar in functions.bars] == [
        ("f0", "500 · 66.7 %"),
        ("f1", "250 · 33.3 %"),
    ]


def test_causes_are_told_apart_without_colours() -> None:
    """All but the first have a pattern of their own, which the page defines once."""
    text = html_report([report_with(MODELLED), report_with(MODELLED)])
    patterns = re.findall(r'<pattern id="([^"]+)"[^>]*>(.*?)</pattern>', text)
    assert [name for name, _ in patterns] == [f"cause-{cause}" for cause in CAUSES[1:]]
    assert len({shape for _, shape in patterns}) == len(patterns)
    used = set(re.findall(r'fill="url\(#([^)]+)\)"', text))
    assert used == {f"cause-{cause}" for cause in CAUSES[1:]}
    style = text.partition("<style>")[2].partition("</style>")[0]
    for cause in (*CAUSES, UNKNOWN):
        assert f".{cause} {{ fill: var(--{cause}); }}" in style
        assert style.count(f"--{cause}: #") == 2, "light and dark"
    for cause in CAUSES:
        assert re.search(rf"<li><svg[^>]*><rect class=\"{cause}\".*?% {cause}: ", text, re.DOTALL)


def test_the_table_says_the_same() -> None:
    """Every function of every layer, with its causes."""
    text = html_report([report_with(MODELLED)])
    table = text.partition("Layers and functions of c int8 on emulator as a table")[2]
    table = table.partition("</table>")[0]
    for layer in MODELLED.layers:
        assert layer.operation in table
        for cost in layer.functions:
            row = table.partition(f">{cost.function}</th>")[2].partition("</tr>")[0]
            assert cost.causes is not None
            figures = [cost.instructions, cost.cycles, *(getattr(cost.causes, c) for c in CAUSES)]
            assert re.findall(r'number">([\d,]+)<', row) == [f"{f:,.0f}" for f in figures]
