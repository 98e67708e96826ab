"""Gates mean what they say, and nothing passes because a figure is missing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgekit.bench.environment import Clock
from edgekit.bench.protocol import Latency, Protocol
from edgekit.bench.report import Accuracy, Report, Run, as_text
from edgekit.cli.app import app
from edgekit.errors import UsageError
from edgekit.report.compare import Change, compare
from edgekit.report.gate import parse_gate
from edgekit.report.load import load_report
from edgekit.report.metrics import METRICS
from tests.support.reports import (
    BASELINE,
    CYCLE_MODEL,
    ENVIRONMENT,
    MEASURED,
    MODELLED,
    REPORT,
    report_with,
)
from tests.support.spiking_reports import SPIKING_REPORT


def with_latency(milliseconds: float) -> Report:
    """A measured run of so many milliseconds."""
    return report_with(MEASURED, latency_ms=Latency.of_samples([milliseconds] * 4, first=9.0))


def with_accuracy(value: float, samples: int = 20) -> Report:
    """A run with so many right answers."""
    return report_with(MEASURED, accuracy=Accuracy(value, samples, "test.npz"))


def change_of(before: Report, after: Report, metric: str, *gates: str) -> Change:
    """One metric of the only run."""
    changes = compare(before, after, [parse_gate(gate) for gate in gates]).changes
    (found,) = (change for change in changes if change.metric == metric)
    return found


@pytest.mark.parametrize(
    ("gate", "after", "trips"),
    [
        ("latency_ms>+5%", 10.5, False),
        ("latency_ms>+5%", 10.6, True),
        ("latency_ms>+5%", 5.0, False),
        ("latency_ms<-5%", 9.4, True),
        ("latency_ms<-5%", 9.6, False),
        ("latency_ms > +0.5", 10.6, True),
        ("latency_ms > +0.5", 10.4, False),
        ("latency_ms>12", 12.1, True),
        ("latency_ms>12", 12.0, False),
        ("latency_ms<1e1", 9.9, True),
        ("latency_ms<.5", 9.9, False),
    ],
)
def test_kinds_of_gates(gate: str, after: float, trips: bool) -> None:
    """Relative, by a difference, and by the value itself; a limit is not yet beyond it."""
    change = change_of(with_latency(10.0), with_latency(after), "latency_ms", gate)
    assert change.failed == ((gate,) if trips else ())


def test_accuracy_may_fall_so_far() -> None:
    """In points, not in per cent."""
    before = with_accuracy(0.92)
    assert not change_of(before, with_accuracy(0.915), "accuracy", "accuracy<-0.01").failed
    worse = change_of(before, with_accuracy(0.9), "accuracy", "accuracy<-0.01")
    assert worse.failed
    assert worse.direction == "worse"


def test_a_change_says_everything() -> None:
    """Both values, difference, share, direction, provenance."""
    change = change_of(with_latency(8.0), with_latency(6.0), "latency_ms")
    assert (change.before, change.after, change.difference, change.relative) == (8, 6, -2, -0.25)
    assert (change.direction, change.provenance, change.note) == ("better", "measured", "")
    assert change.run == "c int8 on local (subject)"


def test_from_nothing() -> None:
    """A share of zero does not exist; a relative gate trips on any growth."""
    before = report_with(MODELLED, stack_bytes=0)
    change = change_of(before, report_with(MODELLED), "stack_bytes", "stack_bytes>+5%")
    assert change.relative is None
    assert change.failed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("latency>+5%", "did you mean 'latency_ms'"),
        ("speed>1", "no metric 'speed'.*there are latency_ms"),
        ("latency_ms>5%", r"has a sign: 'latency_ms>\+5%'"),
        ("latency_ms=5", "must be METRIC>LIMIT or METRIC<LIMIT"),
        ("latency_ms>", "must be METRIC>LIMIT"),
        ("latency_ms>fast", "must be METRIC>LIMIT"),
        ("latency_ms>+1e999%", "must be METRIC>LIMIT"),
        ("latency_ms>+nan", "must be METRIC>LIMIT"),
        ("latency_ms>٥", "must be METRIC>LIMIT"),
        ("", "must be METRIC>LIMIT"),
    ],
)
def test_grammar(text: str, words: str) -> None:
    """What is wrong, and what would be right."""
    with pytest.raises(UsageError, match=words):
        parse_gate(text)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_can_be_a_gate(name: str) -> None:
    """Some run of the complete report has it, and equal reports trip nothing."""
    gate = parse_gate(f"{name}>+0%")
    assert gate.metric.name == name
    found = [(c, r) for c in (REPORT, SPIKING_REPORT) for r in c.runs if gate.metric.find(c, r)]
    assert found
    complete = found[0][0]
    report = replace(complete, runs=tuple(run for of, run in found if of is complete))
    assert not compare(report, report, [gate]).failed


def test_a_missing_figure_is_no_pass() -> None:
    """On either side, or on both."""
    have, lack = report_with(MODELLED), report_with(MODELLED, instructions=None)
    gate = [parse_gate("instructions>+5%")]
    for before, after in ((have, lack), (lack, have), (lack, lack)):
        with pytest.raises(UsageError, match=r"cannot be decided.*instructions"):
            compare(before, after, gate)
    assert change_of(have, lack, "instructions").note == "not in the second report"
    assert change_of(lack, have, "instructions", "instructions>1").failed


def test_a_missing_run_is_no_pass() -> None:
    """Gates hold for every run that there was."""
    before = replace(REPORT, runs=(MEASURED, BASELINE))
    after = report_with(MEASURED)
    assert compare(before, after).only_before == ("onnxruntime float32 on local (baseline)",)
    with pytest.raises(UsageError, match="the second report lacks onnxruntime float32"):
        compare(before, after, [parse_gate("latency_ms>+5%")])
    assert compare(after, before).only_after == ("onnxruntime float32 on local (baseline)",)


def test_modelled_is_not_subtracted_from_measured() -> None:
    """Both values are shown, no difference; a gate is refused."""
    measured = report_with(MEASURED)
    modelled = report_with(MEASURED, latency_ms=Latency.modelled(5.0))
    change = change_of(measured, modelled, "latency_ms")
    assert (change.difference, change.direction) == (None, None)
    assert (change.provenance, change.note) == ("measured against modelled", "not comparable")
    with pytest.raises(UsageError, match="measured against modelled; such values cannot"):
        compare(measured, modelled, [parse_gate("latency_ms>+5%")])


def test_what_holds_for_several_runs_is_said_once() -> None:
    """With the names of all of them."""
    runs = (MEASURED, BASELINE)
    later = tuple(replace(run, input="seed 1") for run in runs)
    notes = compare(replace(REPORT, runs=runs), replace(REPORT, runs=later)).notes
    assert notes == (
        f"{LOCAL}, onnxruntime float32 on local (baseline): input: test.npz before, seed 1 after",
    )


def test_nothing_in_common() -> None:
    """Named on both sides."""
    with pytest.raises(UsageError, match="no run belongs to another: c int8 on local"):
        compare(report_with(MEASURED), report_with(BASELINE))


def test_runs_of_the_same_kind_keep_their_order() -> None:
    """Numbered; the second belongs to the second."""
    twice = replace(REPORT, runs=(MEASURED, replace(MEASURED, macs=1)))
    changes = [c for c in compare(twice, twice).changes if c.metric == "macs"]
    assert [(c.run, c.after) for c in changes] == [
        ("c int8 on local (subject)", 70720),
        ("c int8 on local (subject) #2", 1),
    ]


def test_what_differs_beside_the_figures() -> None:
    """Another network, and accuracies over other samples."""
    other = replace(REPORT, artifact=replace(REPORT.artifact, name="other"))
    assert compare(REPORT, other).notes == ("network: net before, other after",)
    note = change_of(with_accuracy(0.9), with_accuracy(0.8, 10), "accuracy").note
    assert note == "over 20 of test.npz and 10 of test.npz"


LOCAL = "c int8 on local (subject)"
EMULATED = "c int8 on emulator (subject)"


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"protocol": Protocol(percentiles=(95.0,), threads=4)}, "threads: 1 before, 4 after"),
        ({"protocol": Protocol()}, "percentiles: 95.0 before, none after"),
        ({"protocol": Protocol(warmup=3, percentiles=(95.0,))}, "warmup: 10 before, 3 after"),
        ({"input": "seed 1"}, "input: test.npz before, seed 1 after"),
        ({"kernels": "NEON"}, "kernels: portable C99 before, NEON after"),
        ({"backend_version": "9"}, "runtime: 0.1.0 before, 9 after"),
        ({"toolchain_version": "gcc 15"}, "compiler: gcc 12.2.0 before, gcc 15 after"),
        ({"toolchain": None, "toolchain_version": None}, "compiler: gcc 12.2.0 before, none after"),
        ({"flags": ("-O3", "-flto")}, "flags: -O2 before, -O3 -flto after"),
        ({"clock_hz": 80_000_000}, "clock: none before, 80 MHz after"),
        ({"on_target": False}, "stands for the target: yes before, no after"),
    ],
)
def test_what_differs_between_runs(changes: dict[str, object], note: str) -> None:
    """Every condition of a run is a note that names the run; equal ones are none."""
    before = report_with(MEASURED)
    assert compare(before, report_with(MEASURED, **changes)).notes == (f"{LOCAL}: {note}",)
    assert compare(before, before).notes == ()


def test_the_order_of_flags_is_told() -> None:
    """The last of two that contradict each other counts."""
    before, after = (report_with(MEASURED, flags=f) for f in (("-O2", "-O3"), ("-O3", "-O2")))
    assert compare(before, after).notes == (f"{LOCAL}: flags: -O2 -O3 before, -O3 -O2 after",)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"board": "Another"}, "board: A board before, Another after"),
        ({"cpu": None}, "machine: A core (aarch64) before, none (aarch64) after"),
        ({"machine": "x86_64"}, "machine: A core (aarch64) before, A core (x86_64) after"),
        ({"cpus": 2}, "CPUs: 4 before, 2 after"),
        ({"power_mode": "15W"}, "power mode: MAXN before, 15W after"),
        (
            {"clocks": (Clock("cpu0", None, None, None, "performance"),)},
            "governor: ondemand before, performance after",
        ),
        ({"throttled": ("throttled",)}, "throttled: none before, throttled after"),
    ],
)
def test_what_differs_between_machines(changes: dict[str, object], note: str) -> None:
    """What decides the speed of a machine."""
    environment = replace(ENVIRONMENT, **changes)  # type: ignore[arg-type]
    assert compare(REPORT, replace(REPORT, environment=environment)).notes == (note,)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            {"version": 2},
            "cycle model: version 1 of cortex-m4 before, version 2 of cortex-m4 after",
        ),
        ({"core": "cortex-m7"}, "version 1 of cortex-m4 before, version 1 of cortex-m7 after"),
        ({"what": "llvm-mca"}, "modelled: in order, hazards before, llvm-mca after"),
        ({"memory": "zero wait states"}, "memory: flash 5 wait .* before, zero wait states after"),
    ],
)
@pytest.mark.parametrize("name", ["cycles", "cycles_fetch", "latency_ms", "energy_uj_gross"])
def test_other_models_decide_no_gate(name: str, model: dict[str, object], words: str) -> None:
    """A change may be the model's; a limit on the later value has nothing to do with it."""
    after = report_with(MODELLED, cycle_model=replace(CYCLE_MODEL, **model))  # type: ignore[arg-type]
    before = report_with(MODELLED)
    with pytest.raises(UsageError, match=rf"{name} was modelled differently \([a-z ]+\)$"):
        compare(before, after, [parse_gate(f"{name}>+5%")])
    change = change_of(before, after, name, f"{name}>1")
    assert change.failed
    assert change.note.startswith("other model: ")
    assert (change.difference, change.direction) == (0, None)
    assert any(re.search(words, note) for note in compare(before, after).notes)
    assert not change_of(before, after, "instructions", "instructions>+5%").failed


def test_another_known_error_is_no_other_model() -> None:
    """The same figures, judged by more published cases."""
    after = report_with(MODELLED, cycle_model=replace(CYCLE_MODEL, error=None, error_holds=False))
    change = change_of(report_with(MODELLED), after, "cycles", "cycles>+5%")
    assert change.note == ""
    assert change.provenance == "modelled"
    models = compare(report_with(MODELLED), after).models
    assert models == (
        f"{EMULATED}: modelled before: {CYCLE_MODEL.words}",
        f"{EMULATED}: modelled after: version 1, never compared with a published latency",
    )


def test_energy_by_another_power_decides_no_gate() -> None:
    """Estimates follow the published power that they are made from."""
    energy = MODELLED.energy_uj
    assert energy is not None
    after = report_with(MODELLED, energy_uj=replace(energy, source="another log"))
    with pytest.raises(UsageError, match=r"energy_uj_gross was modelled differently \(energy\)"):
        compare(report_with(MODELLED), after, [parse_gate("energy_uj_gross>+5%")])


def test_a_gate_on_energy_takes_what_both_have() -> None:
    """An estimate from published power includes idle; above idle comes first where it is known."""
    before, energy = report_with(MODELLED), MODELLED.energy_uj
    assert energy is not None
    after = report_with(MODELLED, energy_uj=replace(energy, gross_uj=250.0))
    change = change_of(before, after, "energy_uj_gross", "energy_uj>+5%")
    assert change.failed == ("energy_uj>+5%",)
    measured = report_with(MEASURED)
    (net,) = compare(measured, measured, [parse_gate("energy_uj>1")]).failed
    assert net.metric == "energy_uj"
    none = report_with(MODELLED, energy_uj=None)
    with pytest.raises(UsageError, match="no run of either report has energy_uj"):
        compare(none, none, [parse_gate("energy_uj>+5%")])


def test_modelled_figures_say_how_far_they_can_be_trusted() -> None:
    """A word in every row, and once for the run what the model is worth."""
    result = compare(report_with(MODELLED), report_with(MODELLED))
    origins = {change.metric: change.provenance for change in result.changes}
    for name in ("latency_ms", "cycles", "cycles_issue"):
        assert origins[name] == "modelled"
    assert origins["energy_uj_gross"] == "estimated"
    assert result.models == (f"{EMULATED}: modelled: {CYCLE_MODEL.words}",)
    assert compare(report_with(MEASURED), report_with(MEASURED)).models == ()
    assert not {"latency_ms_p90", "latency_ms_p99"} & set(origins)
    assert (origins["instructions"], origins["accuracy"]) == ("counted", "counted")


TIMES = [name for name, metric in METRICS.items() if metric.is_time]


def test_times_are_known() -> None:
    """The metrics that the conditions of measurement decide."""
    assert TIMES == [
        *("latency_ms", "latency_ms_p90", "latency_ms_p99", "latency_ms_first"),
        "step_latency_ms",
    ]


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol": Protocol(threads=4)}, "threads: 1 before, 4 after"),
        ({"input": "seed 1"}, "input: test.npz before, seed 1 after"),
        ({"on_target": False}, "stands for the target: yes before, no after"),
    ],
)
def test_times_of_other_conditions_decide_no_gate(
    name: str, changes: dict[str, object], words: str
) -> None:
    """A change may be the conditions'; a limit on the later value has nothing to do with them."""
    before, after = report_with(MEASURED), report_with(MEASURED, **changes)
    for gate in (f"{name}>+5%", f"{name}>+1"):
        with pytest.raises(UsageError, match=f"cannot be decided: {re.escape(LOCAL)}.*{words}"):
            compare(before, after, [parse_gate(gate)])
    assert change_of(before, after, name, f"{name}>1").failed
    assert change_of(before, after, name).note == words
    assert not change_of(before, after, "accuracy", "accuracy<-0.01").failed


@pytest.mark.parametrize(
    ("run", "decided"), [(MEASURED, True), (MODELLED, False)], ids=["measured", "modelled"]
)
def test_how_many_inputs_were_reached(run: Run, decided: bool) -> None:
    """Chance where a clock ends the measurement; in an emulator, another question."""
    before, after = (report_with(run, input=f"first {n} of test.npz") for n in (341, 340))
    gates = [parse_gate("latency_ms>+5%")]
    if decided:
        assert compare(before, after, gates).notes == ()
    else:
        with pytest.raises(UsageError, match="input: first 341 of test.npz before, first 340"):
            compare(before, after, gates)


def command(tmp_path: Path, before: Report, after: Report, *options: str) -> tuple[int, str, str]:
    """Exit code, stdout and what was raised."""
    for name, report in (("a.json", before), ("b.json", after)):
        (tmp_path / name).write_text(as_text(report))
    names = (str(tmp_path / "a.json"), str(tmp_path / "b.json"))
    result = CliRunner().invoke(app, ["-q", "compare", *names, *options])
    return result.exit_code, result.stdout, str(result.exception or "")


def test_command_line(tmp_path: Path) -> None:
    """0 when all is well, 1 when a gate trips, the table says which."""
    good = command(tmp_path, with_latency(10), with_latency(10), "--fail-if", "latency_ms>+5%")
    assert good[0] == 0
    code, out, _ = command(
        tmp_path,
        with_latency(10),
        with_latency(11),
        *("--fail-if", "latency_ms>+5%", "--fail-if", "accuracy<-0.01", "--format", "json"),
    )
    assert code == 1
    (failed,) = (c for c in json.loads(out)["changes"] if c["failed"])
    assert (failed["metric"], failed["failed"]) == ("latency_ms", ["latency_ms>+5%"])


def test_another_schema_is_told(tmp_path: Path) -> None:
    """A typed error with the file's name."""
    path = tmp_path / "old.json"
    path.write_text(json.dumps({**REPORT.to_json(), "schema": 99}))
    with pytest.raises(UsageError, match=r"old\.json: schema is 99, this edgekit reads 3"):
        load_report(path)


def test_a_text_that_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    """JSON can spell half a character; it would break whatever prints or writes it later."""
    path = tmp_path / "surrogate.json"
    path.write_text(as_text(REPORT).replace('"command": "edgekit', '"command": "\\ud800edgekit'))
    with pytest.raises(UsageError, match=r"command is '\\ud800edgekit.*without lone surrogates"):
        load_report(path)


def test_a_report_of_a_file_with_an_odd_name_is_read(tmp_path: Path) -> None:
    """Python's stand-in for bytes that are not UTF-8 is written as an escape."""
    path = tmp_path / "odd.json"
    path.write_text(as_text(replace(REPORT, command="edgekit bench net\udcff")))
    assert load_report(path).command == r"edgekit bench net\udcff"
