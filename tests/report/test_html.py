"""The page loads nothing, runs nothing, and shows names as text."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgekit.bench.memory import Block
from edgekit.bench.protocol import Latency
from edgekit.bench.report import LayerCost, Report, as_text
from edgekit.cli.app import app
from edgekit.errors import UsageError
from edgekit.report.charts import MOST_BARS, latency_charts, layer_chart, memory_map
from edgekit.report.html import html_report
from tests.support.reports import BASELINE, MEASURED, MEMORY, MODELLED, REPORT, report_with

EVIL = (
    "</title></style></svg><script>alert(1)</script>\"'><img src=http://evil.example/x onerror=a>"
)


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
        layers=(LayerCost(EVIL, EVIL, 1, 2, 3.0),),
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
    """Default nothing; the style by its hash."""
    page = Page(html_report([REPORT]))
    (policy,) = (v for t, n, v in page.attributes if n == "content" and "default-src" in v)
    assert "default-src 'none'" in policy
    assert re.search(r"style-src 'sha256-[A-Za-z0-9+/=]{44}'", policy)
    assert "unsafe" not in policy


def test_names_are_text() -> None:
    """What a hostile name says is shown, escaped, in drawings as well."""
    page = html_report([hostile()])
    assert "<script" not in page
    assert "<img" not in page
    assert EVIL in Page(page).text


def test_every_figure_has_its_provenance() -> None:
    """Badges stand beside figures; the four words are explained."""
    text = html_report([REPORT])
    for word in ("measured", "counted", "modelled", "estimated"):
        assert f'<span class="badge {word}">{word}</span>' in text
    page = Page(text)
    for wanted in (REPORT.command, "ab" * 32, "cd" * 32, "gcc 12.2.0", "-O2", "numpy 2.4.6"):
        assert wanted in page.text


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


PROBE = """<script>
addEventListener("load", function () {
  document.body.setAttribute("data-widths",
    innerWidth + " " + document.documentElement.scrollWidth + " " +
    performance.getEntriesByType("resource").length);
});
</script></body>"""
"""For a copy of the page: its widths and what it loaded. The copy's policy lets it run."""


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_fits_and_loads_nothing(tmp_path: Path, width: int) -> None:
    """In a browser, with hostile names as long as they like, everything unfolded."""
    longest = replace(MODELLED, layers=(LayerCost("x" * 3000, "y" * 300, 1, 2, 3.0),))
    reports = [REPORT, hostile(), replace(REPORT, runs=(longest,), command="z" * 3000)]
    page = html_report(reports).replace("<details>", "<details open>")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    path = tmp_path / "page.html"
    # The probe sits in a frame as wide as the screen in question: a window cannot be that narrow.
    path.write_text(page.replace("</body>", PROBE), "utf-8")
    frame = f'<iframe src="page.html" width="{width}" height="2000" style="border:0"></iframe>'
    collect = """<script>addEventListener("load", function () { setTimeout(function () {
      document.title = document.querySelector("iframe").contentDocument.body.dataset.widths;
    }, 200); });</script>"""
    (tmp_path / "outer.html").write_text(f"<body>{frame}{collect}</body>", "utf-8")
    browser = shutil.which("chromium")
    assert browser is not None
    done = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--allow-file-access-from-files", "--virtual-time-budget=4000"),
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width + 100},2100",
            "--dump-dom",
            (tmp_path / "outer.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", done.stdout)
    assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
    inner, scrolled, loaded = map(int, found.groups())
    assert inner == width
    assert scrolled <= inner
    assert loaded == 0
