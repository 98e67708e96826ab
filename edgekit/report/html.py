"""Reports as one HTML page that loads nothing and runs nothing.

Whatever stands in a report is text: the templates escape everything, inside drawings as well, and
the page's own policy forbids scripts, pictures, fonts and connections.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
from markupsafe import Markup

from edgekit.bench.costs import CAUSES
from edgekit.bench.fields import writable
from edgekit.bench.report import Preprocessing, Provenances, Report, Run
from edgekit.errors import UsageError
from edgekit.report import words
from edgekit.report.causes import KIND_WORDS, StackedChart, cause_charts
from edgekit.report.charts import (
    BarChart,
    Budget,
    MemoryMap,
    accuracy_chart,
    budgets,
    latency_charts,
    layer_chart,
    memory_map,
)
from edgekit.report.conditions import governors
from edgekit.report.flame import FlameGraph, flame_graph
from edgekit.report.spikes import Spikes, spikes_of

TEMPLATES = Path(__file__).parent
NONE = "–"

_INVISIBLE = dict.fromkeys(
    c for c in (*range(0x20), 0x7F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)) if c != 0x0A
) | {0x09: " "}
"""Control characters, and those that turn the direction of writing: no name may bring them in."""

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Cycles:
    """What is drawn of the cycles of one run.

    Attributes:
        run: whose they are.
        charts: by cause; none where causes are not known.
        flame: None where functions are not known.
    """

    run: Run
    charts: tuple[StackedChart, ...]
    flame: FlameGraph | None


def cycles_of(run: Run) -> Cycles | None:
    """None where there is nothing to draw."""
    found = Cycles(run, cause_charts(run), flame_graph(run))
    return found if found.charts or found.flame else None


@dataclass(frozen=True)
class Entry:
    """One report as the page shows it.

    Attributes:
        report: itself.
        headline: runs that stand large: the deployed network's, on its target only.
        preprocessing: that stands large; None where its time is not the target's.
        memory_provenance: how the bytes came about.
        cycles: drawings of every run whose cycles are known by cause or by function.
        layer_charts: of every other run whose layers are known.
        map: of the arena, None where it is not known.
        budgets: of flash and RAM, empty without an image.
        warnings: of the machine and of every run.
        facts: where the figures are from.
        no_energy: whether no run has an energy.
        spikes: of a spiking network.
    """

    report: Report
    headline: tuple[Run, ...]
    preprocessing: Preprocessing | None
    memory_provenance: str
    cycles: tuple[Cycles, ...]
    layer_charts: tuple[BarChart, ...]
    map: MemoryMap | None
    budgets: tuple[Budget, ...]
    warnings: tuple[str, ...]
    facts: Facts
    no_energy: bool
    spikes: Spikes | None


def html_report(reports: Sequence[Report], *, title: str = "", names: Sequence[str] = ()) -> str:
    """The page.

    Args:
        reports: in the order that the page shows them.
        title: heading; empty for one made from the reports.
        names: of the reports, one for each, which tell those of the same network and target apart.

    Raises:
        UsageError: there are no reports.
    """
    if not reports:
        raise UsageError("no reports; give at least one")
    reports = told_apart(reports, names) if names else reports
    environment = _environment()
    style = environment.get_template("style.css.j2").render()
    # The policy allows this very style and no other.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = environment.get_template("page.html.j2").render(
        title=title or _title(reports),
        style=Markup(style),
        style_hash=f"sha256-{digest}",
        created=max(report.created for report in reports).replace("T", " ").removesuffix("Z"),
        versions=sorted({report.edgekit for report in reports}),
        runs=sum(len(report.runs) for report in reports),
        entries=[_entry(report) for report in reports],
        latency=latency_charts(reports),
        accuracy=accuracy_chart(reports),
    )
    # The title is an argument of a command, where anything may stand.
    return writable(page).translate(_INVISIBLE)


def told_apart(reports: Sequence[Report], names: Sequence[str]) -> list[Report]:
    """The reports; where several are of one network and target, the target bears a name each."""
    kinds = Counter((r.artifact.name, r.artifact.target) for r in reports)
    found = []
    for report, name in zip(reports, names, strict=True):
        artifact = report.artifact
        if kinds[artifact.name, artifact.target] > 1:
            artifact = replace(artifact, target=f"{artifact.target} ({name})")
        found.append(replace(report, artifact=artifact))
    return found


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "milliseconds": words.milliseconds,
        "microjoules": words.microjoules,
        "size": words.size,
        "count": words.count,
        "percent": words.percent,
        "figures": _figures,
        "provenance": run_facts,
        "spread": spread_words,
    }
    environment.globals |= {"causes": CAUSES, "kinds": KIND_WORDS}
    return environment


def _figures(value: float | None) -> str:
    """Four digits, or nothing."""
    return NONE if value is None else f"{value:.4g}"


def _title(reports: Sequence[Report]) -> str:
    names = list(dict.fromkeys(report.artifact.name for report in reports))
    shown = ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
    return f"What {shown} cost" if len(names) > 1 else f"What {shown} costs"


def _entry(report: Report) -> Entry:
    drawn = [(run, cycles_of(run)) for run in report.runs]
    charts = [layer_chart(run) for run, cycles in drawn if cycles is None or not cycles.charts]
    # Pre-processing is timed once, by the clock of the machine that the report was made on; what
    # was counted as C is the target's.
    here = any(r.on_target and r.protocol is not None for r in report.runs)
    here = here or (report.preprocessing is not None and report.preprocessing.cycles is not None)
    return Entry(
        report=report,
        headline=tuple(r for r in report.runs if r.role == "subject" and r.on_target),
        preprocessing=report.preprocessing if here else None,
        memory_provenance=_memory_provenance(report),
        cycles=tuple(cycles for _, cycles in drawn if cycles is not None),
        layer_charts=tuple(chart for chart in charts if chart is not None),
        map=None if report.memory is None else memory_map(report.memory),
        budgets=() if report.memory is None else budgets(report.memory),
        warnings=(
            *report.warnings,
            *(
                f"{run.backend} {run.precision} on {run.place}: {text}"
                for run in report.runs
                for text in run.warnings
            ),
        ),
        facts=report_facts(report),
        no_energy=all(run.energy_uj is None for run in report.runs),
        spikes=spikes_of(report),
    )


def _memory_provenance(report: Report) -> str:
    """Of the generated library's bytes, which the runs of generated C say."""
    found = (run.provenance for run in report.runs if run.backend == "c")
    return next(found, Provenances()).memory


def report_facts(report: Report) -> Facts:
    """Versions, hashes, the machine and the command."""
    machine, artifact = report.environment, report.artifact
    clocks = sorted({c.current_hz for c in machine.clocks if c.current_hz is not None})
    found = {
        "made": report.created,
        "command": report.command,
        "edgekit": report.edgekit,
        "model": f"{artifact.model_file} ({artifact.model_format})",
        "model SHA-256": artifact.model_sha256,
        "artifact SHA-256": artifact.artifact_sha256,
        "board": machine.board,
        "CPU": f"{machine.cpu or machine.machine}, {machine.cpus} usable",
        "system": f"{machine.system}, {machine.machine}",
        "clocks": ", ".join(f"{hz / 1e6:,.0f} MHz" for hz in clocks),
        "governor": governors(machine),
        "temperatures": ", ".join(f"{t.zone} {t.celsius:g} °C" for t in machine.temperatures),
        "load": None if machine.load is None else f"{machine.load:g}",
        "power mode": machine.power_mode,
        "throttled": None if machine.throttled is None else ", ".join(machine.throttled) or "no",
        "Python": machine.python,
        "libraries": ", ".join(f"{v.name} {v.version}" for v in machine.libraries),
        "files": ", ".join(f"{f.file} {words.size(f.bytes)}" for f in report.files),
        "pre-processing": report.preprocessing and report.preprocessing.specification,
        "time of pre-processing": _preprocessing_words(report.preprocessing),
    }
    return tuple((name, value or NONE) for name, value in found.items())


def _preprocessing_words(preprocessing: Preprocessing | None) -> str | None:
    if preprocessing is None or preprocessing.latency_ms is None:
        return None
    latency = preprocessing.latency_ms
    where = "on the machine above" if preprocessing.cycles is None else "of one sample as C"
    return f"{words.milliseconds(latency.p50)}, {latency.provenance} {where}"


def energy_words(run: Run) -> str | None:
    """An energy with all its values and where they are from; None without one."""
    energy = run.energy_uj
    if energy is None:
        return None
    values = ((energy.net_uj, "above idle"), (energy.gross_uj, "with idle"))
    shown = [f"{words.microjoules(value)} {kind}" for value, kind in values if value is not None]
    shown += [spread] if (spread := spread_words(run)) else []
    window = None if energy.window_s is None else f"{energy.window_s:g} s"
    origins = (run.origin(energy.provenance), energy.sensor, window, energy.source)
    return f"{', '.join(shown)}; {', '.join(word for word in origins if word)}"


def spread_words(run: Run) -> str:
    """From where to where a run's energy may be; empty where that is not known."""
    energy = run.energy_uj
    if energy is None or energy.low_uj is None or energy.high_uj is None:
        return ""
    note = f" ({run.spread_note})" if run.spread_note else ""
    return f"{words.microjoules(energy.low_uj)} … {words.microjoules(energy.high_uj)}{note}"


def run_facts(run: Run) -> Facts:
    """How a run was made, and how its figures came about."""
    protocol, latency = run.protocol, run.latency_ms
    found = {
        "runtime": f"{run.backend} {run.backend_version}, {run.kernels}",
        "input": f"{run.input} ({run.samples} different)",
        "protocol": protocol
        and f"first run apart, {protocol.warmup} to warm up, at least {protocol.iterations} runs "
        f"and {protocol.min_seconds:g} s, {protocol.threads} thread(s)",
        "samples": latency and latency.samples and f"{len(latency.samples):,} kept",
        "energy": energy_words(run),
        "cycle model": run.cycle_model and run.cycle_model.sentence,
        "clock": run.clock_hz and f"{run.clock_hz / 1e6:g} MHz",
        "compiler": run.toolchain_version,
        "flags": " ".join(run.flags),
        "figures": ", ".join(f"{name} {how}" for name, how in _origins(run)),
    }
    return tuple((name, str(value)) for name, value in found.items() if value)


def _origins(run: Run) -> Facts:
    """How each figure that the run has came about."""
    known = {
        "multiply-accumulates": (run.macs, run.provenance.macs),
        "instructions": (run.instructions, run.provenance.instructions),
        "cycles": (run.cycles, run.provenance.cycles),
        "stack": (run.stack_bytes, run.provenance.stack_bytes),
        "accuracy": (run.accuracy, run.provenance.accuracy),
        "agreement": (run.agreement, run.provenance.agreement),
    }
    found = [(name, how) for name, (value, how) in known.items() if value is not None]
    how = run.provenance.layers_latency_ms
    if how is not None and any(layer.latency_ms is not None for layer in run.layers):
        found.append(("times of layers", how))
    return tuple(found)
