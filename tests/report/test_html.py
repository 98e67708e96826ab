"""The page loads nothing, runs nothing, and shows names as text."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from edgekit.bench.costs import Causes, CycleModel, FunctionCost, LayerCost
from edgekit.bench.energy import Energy
from edgekit.bench.memory import Block, BlockKind
from edgekit.bench.protocol import Latency
from edgekit.bench.report import Provenances, Report, as_text
from edgekit.cli.app import app
from edgekit.errors import UsageError
from edgekit.report.charts import MOST_BARS, budgets, latency_charts, layer_chart, memory_map
from edgekit.report.html import html_report
from tests.support.reports import (
    BASELINE,
    CYCLE_MODEL,
    MEASURED,
    MEMORY,
    MODELLED,
    REPORT,
    report_with,
)

EVIL = (
    "</title></style></svg><script>alert(1)</script>\"'><img src=http://evil.example/x onerror=a>"
)


def layer_called(name: str) -> LayerCost:
    """With every text that a layer has."""
    causes = Causes(issue=1.0, fetch=2.0)
    function = FunctionCost(name, "kernel", name, 2, 3.0, causes)
    return LayerCost(name, name, 1, 2, 3.0, kernel=name, causes=causes, functions=(function,))


def hostile() -> Report:
    """Every text that a model or a machine can choose is an attack."""
    run = replace(
        MODELLED,
        device=EVIL,
        kernels=EVIL,
        backend_version=EVIL,
        input=EVIL,
        toolchain_version=EVIL,
        flags=(EVIL,),
        warnings=(EVIL,),
        layers=(layer_called(EVIL),),
        cycle_model=CycleModel(1, EVIL, EVIL, EVIL, None),
        energy_uj=Energy("estimated", gross_uj=1.0, source=EVIL),
    )
    return replace(
        REPORT,
        edgekit=EVIL,
        command=EVIL,
        artifact=replace(REPORT.artifact, name=EVIL, target=EVIL, model_file=EVIL),
        environment=replace(REPORT.environment, board=EVIL, cpu=EVIL, system=EVIL),
        memory=replace(MEMORY, blocks=(Block(EVIL, "activation", 0, 8, 0, 0),)),
        runs=(run,),
        warnings=(EVIL,),
    )


class Page(HTMLParser):
    """Elements and attributes of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("report", [REPORT, hostile()], ids=["usual", "hostile"])
def test_nothing_is_loaded_and_nothing_runs(report: Report) -> None:
    """No element or attribute that could fetch or execute; links stay on the page."""
    page = Page(html_report([report, report]))
    assert not {"script", "img", "link", "iframe", "object", "embed", "base", "form"} & set(
        page.tags
    )
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "srcset", "style", "xlink:href", "action"), (tag, name)
        if name == "href":
            assert re.fullmatch(r"#report-\d+", value)
    style = html_report([report]).partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_this_style_only() -> None:
    """Default nothing; the style by the hash of what stands between its tags."""
    text = html_report([REPORT])
    (policy,) = (v for t, n, v in Page(text).attributes if n == "content" and "default-src" in v)
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_names_are_text() -> None:
    """What a hostile name says is shown, escaped, in drawings as well."""
    page = html_report([hostile()])
    assert "<script" not in page
    assert "<img" not in page
    assert EVIL in Page(page).text


ODD = Provenances(
    macs="estimated",
    instructions="modelled",
    cycles="measured",
    stack_bytes="estimated",
    memory="modelled",
    layers_latency_ms="estimated",
    accuracy="estimated",
    agreement="modelled",
)
"""No figure came about in the usual way, so that a badge cannot be right by chance."""


def headline(text: str) -> dict[str, tuple[str, str]]:
    """The large figures: value and badge (empty without one) by name; the last of each name."""
    figures = re.findall(r"<dt>(.*?)</dt><dd>(.*?)<small class=\"soft\">(.*?)</small>", text)
    badges = ((name, value, re.search(r"badge (\w+)", rest)) for name, value, rest in figures)
    return {name: (value, badge[1] if badge else "") for name, value, badge in badges}


def test_every_large_figure_has_its_provenance() -> None:
    """What the report says, not what is usual."""
    found = headline(html_report([report_with(MEASURED, provenance=ODD)]))
    assert found == {
        "Median latency": ("5.15 ms", "measured"),
        "Flash": ("6.93 KiB", "modelled"),
        "RAM": ("3.06 KiB", "modelled"),
        "Accuracy": ("90 %", "estimated"),
        "Multiply-accumulates": ("70,720", "estimated"),
        "Pre-processing": ("100 µs", "measured"),
        "Energy above idle": ("120 µJ", "measured"),
    }
    assert MEMORY.flash_bytes is not None
    report = replace(
        report_with(MODELLED, provenance=ODD, energy_uj=None),
        memory=replace(MEMORY, flash_bytes=None, ram_bytes=None),
    )
    found = headline(html_report([report]))
    assert found["Latency"] == ("5.074 ms", "modelled")
    assert found["Cycles"] == ("608,888", "measured")
    assert "Median latency" not in found
    assert (found["Weights"], found["Arena"]) == (("4 KiB", "modelled"), ("2 KiB", "modelled"))
    assert found["Energy"] == ("–", "")


def test_every_other_figure_has_its_provenance() -> None:
    """In tables, in titles of drawings, and in the list of where figures are from."""
    text = html_report([report_with(MODELLED, provenance=ODD)])
    trust = f'<small class="trust">{CYCLE_MODEL.tag}</small>'

    def badge(word: str) -> str:
        return f'<span class="badge {word}">{word}</span>'

    for wanted in (
        f"5.074 {badge('modelled')} {trust}",
        f'213.1 µJ with idle <small class="trust">163.7 µJ … 482.7 µJ</small> '
        f"{badge('estimated')} {trust}",
        f"425,455 {badge('modelled')}",
        f"220 {badge('estimated')}",
        f"0 of 20 {badge('modelled')}",
        f'<td class="number">90 % {badge("estimated")}</td>',
        f"6.93 KiB {badge('modelled')}",
        f"Arena over the layers {badge('modelled')}",
        f"What memory holds {badge('modelled')}",
        "MACs (estimated)",
        "instructions (modelled)",
        "cycles (measured)",
        f'<td class="number">608,888 {badge("measured")}',
        "multiply-accumulates estimated, instructions modelled, cycles measured, stack estimated, "
        "accuracy estimated, agreement modelled",
    ):
        assert wanted in text, wanted
    body = text.partition("<main>")[2]
    assert badge("counted") not in body


def test_times_of_layers_have_their_provenance() -> None:
    """Where there are any; else there is no column and no word of them."""
    timed = html_report([report_with(MEASURED, provenance=ODD)])
    assert "ms (estimated)" in timed
    assert "times of layers estimated" in timed
    bare = html_report([report_with(MODELLED, provenance=ODD)])
    assert "ms (estimated)" not in bare
    assert "times of layers" not in bare


def test_a_modelled_run_is_not_dressed_as_measured() -> None:
    """One figure: no median, no percentiles, and no line that would reach them."""
    text = html_report([report_with(MODELLED)])
    assert "edian" not in text.partition("</style>")[2]
    assert "p50" not in text
    assert "99th percentile" not in text
    runs = text.partition('aria-label="Runs of net"')[2]
    row = runs.partition("<tbody>")[2].partition("</tr>")[0]
    assert row.count("5.074") == 1
    assert "CoV" not in runs.partition("</thead>")[0]
    assert '<td class="number">–</td>' not in row
    (chart,) = latency_charts([report_with(MODELLED)])
    assert chart.note == "Bars are modelled latencies."
    (both,) = latency_charts([REPORT])
    assert "medians where measured, else modelled latencies" in both.note
    assert "Median latency" in html_report([report_with(MEASURED)])


def test_a_spread_of_the_power_alone_says_so() -> None:
    """In the tile, in the table of runs, and where figures are from."""
    model = replace(CYCLE_MODEL, error_holds=False)
    text = html_report([report_with(MODELLED, cycle_model=model)])
    assert text.count("163.7 µJ … 482.7 µJ (power only)") == 3
    assert "power only" not in html_report([REPORT])


def test_a_file_is_counted() -> None:
    """Its length is, whatever the bytes of generated code are."""
    text = html_report([report_with(BASELINE, provenance=ODD)])
    assert '12.1 KiB <span class="badge counted">counted</span>' in text


def test_the_whole_sentence_stands_once() -> None:
    """For people above the drawings; else only where figures are from."""
    text = html_report([report_with(MODELLED)])
    assert text.count(CYCLE_MODEL.sentence) == 2
    assert text.count(CYCLE_MODEL.words) == 2
    assert text.index(CYCLE_MODEL.sentence) < text.index("Flame graph of cycles")
    assert "are modelled: version" not in html_report([report_with(MEASURED)])


def test_where_figures_are_from() -> None:
    """Command, hashes, compiler, flags, libraries, and the energy with its sensor."""
    page = Page(html_report([REPORT]))
    for wanted in (
        REPORT.command,
        "ab" * 32,
        "cd" * 32,
        "gcc 12.2.0",
        "-O2",
        "numpy 2.4.6",
        "120 µJ above idle, 180 µJ with idle, 115 µJ … 126 µJ; measured, a sensor, 12 s",
        "100 µs, measured on the machine above",
    ):
        assert wanted in page.text


def test_energy_is_shown_where_it_is_known() -> None:
    """Large, and in the table of runs with how it came about; no column without any."""
    energy = Energy("estimated", gross_uj=5074.1, source="a table")
    text = html_report([report_with(MODELLED, energy_uj=energy)])
    assert headline(text)["Energy with idle"] == ("5.074 mJ", "estimated")
    assert '<td class="number">5.074 mJ with idle' in text
    assert "; estimated v1, -18…+3 %" in text
    assert "a table</td>" in text
    assert "nothing measured it" not in text
    without = html_report([report_with(MODELLED, energy_uj=None)])
    assert '<th scope="col" class="number">energy</th>' in text
    assert '<th scope="col" class="number">energy</th>' not in without
    assert "nothing measured it" in without


def test_another_machine_is_never_the_target() -> None:
    """No figure of it stands large, its time has a chart of its own, its layers say so."""
    elsewhere = report_with(MEASURED, on_target=False)
    found = headline(html_report([elsewhere]))
    assert found["Latency"] == ("–", "")
    assert not {"Accuracy", "Energy above idle", "Pre-processing"} & set(found)
    here, there = latency_charts([elsewhere, report_with(MODELLED)])
    assert (here.title, here.on_target, len(here.bars)) == ("Latency of net on its target", True, 1)
    assert here.bars[0].label == "c int8 · a-board"
    assert there.title == "Not on the target: net on a machine that stands in for it"
    assert (there.on_target, len(there.bars)) == (False, 1)
    assert there.bars[0].label == "c int8 · not on a-board"
    assert there.note.startswith("These times are the other machine's")
    assert latency_charts([elsewhere]) == (there,)
    layers = layer_chart(elsewhere.runs[0])
    assert layers is not None
    assert layers.title == "Time of each layer, not on the target"
    text = html_report([elsewhere])
    assert text.count('<figure class="card elsewhere">') == 2
    assert "ms (not the target’s, measured)" in text


def test_budgets_are_those_of_an_image() -> None:
    """With the image's own totals, and none at all without an image."""
    flash, ram = budgets(replace(MEMORY, runtime_bytes=100, flash_bytes=7296))
    assert (flash.used, flash.available, flash.full) == ("7.12 KiB", "128 KiB", "5.566 %")
    assert [part.kind for part in flash.parts] == ["weights", "code", "runtime"]
    assert [part.width for part in flash.parts] == [56.14, 41.118, 1.371]
    assert (ram.used, [part.kind for part in ram.parts]) == (
        "3.06 KiB",
        ["activation", "state", "stack"],
    )
    (only,) = budgets(replace(MEMORY, flash_bytes=None))
    assert only.name == "RAM"
    (beyond, _) = budgets(replace(MEMORY, flash_bytes=1))
    assert sum(part.width for part in beyond.parts) <= 100
    bare = replace(REPORT, memory=replace(MEMORY, flash_bytes=None, ram_bytes=None))
    assert budgets(bare.memory or MEMORY) == ()
    text = html_report([bare])
    assert "What memory holds" not in text
    assert "Arena over the layers" in text


def test_every_kind_has_its_colour() -> None:
    """A part of a drawing that the style does not know would be black."""
    style = html_report([REPORT]).partition("<style>")[2].partition("</style>")[0]
    drawn = {part.kind for b in budgets(replace(MEMORY, runtime_bytes=1)) for part in b.parts}
    for kind in {*get_args(BlockKind), *drawn}:
        assert f".{kind} {{ fill: var(--{kind}); }}" in style
        assert style.count(f"--{kind}: #") == 2, "light and dark"


def test_a_title_that_no_file_can_hold() -> None:
    """An argument may be any bytes."""
    assert r"<h1>\udcff</h1>" in html_report([REPORT], title="\udcff")


def test_drawings_have_names() -> None:
    """Every picture says what it shows to who cannot see it; tables can be reached by keyboard."""
    text = html_report([REPORT])
    drawings = re.findall(r"<svg[^>]*>", text)
    assert len(drawings) > 5
    assert all("aria-label=" in d or 'aria-hidden="true"' in d for d in drawings)
    assert all(
        'tabindex="0"' in d and "aria-label=" in d
        for d in re.findall(r'<div class="scroll[^>]*>', text)
    )


def test_reports_without_anything() -> None:
    """No latency, no memory, no layers, no accuracy: a page all the same."""
    bare = replace(
        report_with(MEASURED, latency_ms=None, layers=(), accuracy=None, macs=None, agreement=None),
        memory=None,
        preprocessing=None,
    )
    page = html_report([bare])
    assert "Bars are medians" not in page
    assert "Arena over the layers" not in page
    with pytest.raises(UsageError, match="no reports"):
        html_report([])


def test_baselines_are_marked() -> None:
    """So that nobody takes them for what was deployed."""
    assert "baseline" in Page(html_report([report_with(BASELINE)])).text


def test_a_long_network_is_summed_up() -> None:
    """The costliest layers in their order; the rest is one line, and in the table."""
    layers = tuple(LayerCost(f"l{i}", "conv_2d", 1, i, float(i)) for i in range(1, 101))
    chart = layer_chart(replace(MODELLED, layers=layers))
    assert chart is not None
    assert [bar.label for bar in chart.bars] == [f"l{i}" for i in range(61, 101)]
    assert len(chart.bars) == MOST_BARS
    assert chart.rest == "60 smaller layers take 36.24 %"


def test_latency_axis() -> None:
    """From zero where everything can be seen, else by factors, and then it says so."""
    runs = [report_with(MEASURED, latency_ms=Latency.modelled(v)) for v in (2.0, 8.0)]
    (chart,) = latency_charts(runs)
    assert [bar.width for bar in chart.bars] == [24.038, 96.154]
    assert "logarithmic" not in chart.note
    runs.append(report_with(MEASURED, latency_ms=Latency.modelled(200.0)))
    (chart,) = latency_charts(runs)
    assert "on a logarithmic scale from 1 ms" in chart.note
    a, b, c = (bar.width for bar in chart.bars)
    assert (b - a) / (c - b) == pytest.approx(math.log(4) / math.log(25), rel=1e-3)
    other = replace(runs[0], artifact=replace(REPORT.artifact, name="other"))
    assert len(latency_charts([*runs, other])) == 2


def test_memory_map_is_to_scale() -> None:
    """Offset upward, lifetime to the right, in percent."""
    drawn = memory_map(MEMORY)
    assert drawn is not None
    x, conv = drawn.rectangles
    assert (x.x, x.y, x.width, x.height) == (0, 50, 100, 50)
    assert (conv.x, conv.y, conv.width, conv.height) == (50, 25, 50, 25)
    assert conv.kind == "scratch"
    assert [tick.label for tick in drawn.ticks] == ["0 B", "512 B", "1 KiB", "1.5 KiB", "2 KiB"]


def test_command_line(tmp_path: Path) -> None:
    """Several reports, one file, folders made."""
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(as_text(REPORT))
    output = tmp_path / "out" / "page.html"
    names = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    result = CliRunner().invoke(app, ["report", *names, "-o", str(output), "--title", "<b>T</b>"])
    assert result.exit_code == 0, result.output
    assert "<h1>&lt;b&gt;T&lt;/b&gt;</h1>" in output.read_text("utf-8")


def test_reports_of_one_target_are_told_apart(tmp_path: Path) -> None:
    """Before and after carry the names of their files; a lone one needs none."""
    for name in ("before.json", "after.json"):
        (tmp_path / name).write_text(as_text(REPORT))
    output, names = (
        tmp_path / "page.html",
        [str(tmp_path / f"{n}.json") for n in ("before", "after")],
    )
    assert CliRunner().invoke(app, ["report", *names, "-o", str(output)]).exit_code == 0
    text = output.read_text("utf-8")
    target = REPORT.artifact.target
    assert f"{target} (before)" in text
    assert f"{target} (after)" in text
    assert "(before)" not in html_report([REPORT], names=["before"])


def test_a_report_is_not_overwritten(tmp_path: Path) -> None:
    """The page does not take the place of what it was made from."""
    path = tmp_path / "a.json"
    path.write_text(as_text(REPORT))
    before = path.read_bytes()
    result = CliRunner().invoke(app, ["report", str(path), "-o", str(tmp_path / "." / "a.json")])
    assert isinstance(result.exception, UsageError)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["rep.md", "rep.json", "rep.pdf", "rep"])
def test_a_page_is_html(tmp_path: Path, name: str) -> None:
    """No HTML in a file that says it is something else."""
    path = tmp_path / "a.json"
    path.write_text(as_text(REPORT))
    result = CliRunner().invoke(app, ["report", str(path), "-o", str(tmp_path / name)])
    assert isinstance(result.exception, UsageError)
    assert "must end in .html or .htm" in str(result.exception)
    assert not (tmp_path / name).exists()


def test_names_cannot_turn_the_text() -> None:
    """Control characters and those that turn the direction of writing are left out."""
    report = replace(REPORT, artifact=replace(REPORT.artifact, name="a\x00b\x1b[31m\u202ec\td"))
    page = html_report([report])
    assert "ab[31mc d" in page
    assert not {"\x00", "\x1b", "\u202e"} & set(page)


COLLECT = """<body>
<iframe src="page.html" width="WIDTH" height="2000" style="border:0"></iframe>
<script>
addEventListener("load", function () {
  const frame = document.querySelector("iframe"), page = frame.contentDocument;
  for (const fold of page.querySelectorAll("details")) fold.open = true;
  const card = frame.contentWindow.getComputedStyle(page.querySelector(".card"));
  document.title = [
    frame.contentWindow.innerWidth,
    page.documentElement.scrollWidth,
    frame.contentWindow.performance.getEntriesByType("resource").length,
    card.borderTopLeftRadius,
  ].join(" ");
});
</script></body>"""
"""Around the page, in a frame as wide as the screen in question, since a window cannot be that
narrow. It looks in from outside: the page itself stays as it was written, policy included."""


def in_browser(folder: Path, page: str, width: int) -> tuple[int, int, int, str]:
    """Widths of the frame and of its contents, files loaded, and the radius of a card's corner."""
    (folder / "page.html").write_text(page, "utf-8")
    (folder / "outer.html").write_text(COLLECT.replace("WIDTH", str(width)), "utf-8")
    browser = shutil.which("chromium")
    assert browser is not None
    done = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--allow-file-access-from-files", "--virtual-time-budget=4000"),
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width + 100},2100",
            "--dump-dom",
            (folder / "outer.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r"<title>(\d+) (\d+) (\d+) (\w+)</title>", done.stdout)
    assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
    inner, scrolled, loaded, radius = found.groups()
    return int(inner), int(scrolled), int(loaded), radius


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_fits_and_loads_nothing(tmp_path: Path, width: int) -> None:
    """In a browser, with hostile names as long as they like, everything unfolded."""
    longest = replace(MODELLED, layers=(LayerCost("x" * 3000, "y" * 300, 1, 2, 3.0),))
    drawn = replace(MODELLED, layers=(layer_called("x" * 3000),) * 30)
    runs = (longest, drawn)
    reports = [REPORT, hostile(), replace(REPORT, runs=runs, command="z" * 3000)]
    inner, scrolled, loaded, radius = in_browser(tmp_path, html_report(reports), width)
    assert inner == width
    assert scrolled <= inner
    assert loaded == 0
    assert radius == "10px", "the policy kept the browser from applying the page's own style"


@pytest.mark.needs("chromium")
def test_the_policy_is_in_force(tmp_path: Path) -> None:
    """A style that is not the page's own is not applied."""
    page = html_report([REPORT]).replace("border-radius: 10px", "border-radius: 11px")
    assert in_browser(tmp_path, page, 390)[-1] == "0px"
