"""Render the README's tables from the tables of the code and from ``results/``.

::

    python benchmarks/render_readme.py           # rewrites README.md between its markers
    python benchmarks/render_readme.py --check   # fails where a table is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from edgekit.cli.render import Format, rows_as
from edgekit.formats import ELEMENTS
from edgekit.program.ir import DType
from edgekit.targets.legality import FORMATS, has_hardware_float
from edgekit.targets.target import Target, builtin_targets
from edgekit.zoo.recipe import read_recipe
from edgekit.zoo.table import NETWORKS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def targets() -> str:
    """Formats × targets."""
    rows = []
    for target in builtin_targets().values():
        flash, ram = target.program_bytes // 1024, target.data_bytes // 1024
        is_jetson = target.module is not None
        rows.append(
            {
                "target": f"`{target.name}`",
                "processor": processor(target),
                "flash / RAM KiB": f"{flash:,} / {ram:,}" if target.board else None,
                **{str(f): format_word(target, f) for f in FORMATS},
                "back ends": "TensorRT" if is_jetson else BACKENDS[target.family],
                "runs here on": target.devices,
                "status": target.status,
            }
        )
    return rows_as(rows, Format.MD)


BACKENDS = {
    "host": "C, ONNX Runtime, LiteRT",
    "arm-cpu": "C, ONNX Runtime, LiteRT",
    "microcontroller": "C",
}
"""What executes a network, by family."""


def processor(target: Target) -> str:
    """Core, CPU or GPU in a word."""
    if target.module is not None:
        major, minor = target.module.compute_capability
        return f"GPU {major}.{minor}"
    if target.cpu is not None:
        return target.cpu.name
    return target.core.name if target.core else "this machine"


def format_word(target: Target, dtype: DType) -> str:
    """How a target computes in a format."""
    if target.module is not None:
        return {"int8": "yes", "int16": "-", "float32": "yes"}[str(dtype)]
    soft = dtype is DType.FLOAT32 and not has_hardware_float(target)
    return "soft-float" if soft else "yes"


def zoo() -> str:
    """Reference networks; those without a recipe are factories only."""
    rows = [
        {
            "network": f"`{n.name}`",
            "what for": n.description,
            "input": "×".join(map(str, n.input_shape[1:])),
            "data set": read_recipe(n.name).dataset if n.trainable else "no recipe yet",
        }
        for n in NETWORKS.values()
    ]
    return rows_as(rows, Format.MD)


def read_rows(name: str) -> list[dict[str, Any]]:
    """Rows of a results file."""
    path = ROOT / "results" / f"{name}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def har() -> str:
    """Accuracy on every way of running the activity network."""
    rows = [
        {
            "split": r["split"],
            "target": f"`{r['target']}`",
            "ran on": r["device"],
            "back end": r["backend"],
            "windows": r["test_windows"],
            "float": f"{r['float_accuracy']:.2%}",
            "int8": f"{r['int8_accuracy']:.2%}",
            "bit-identical": r["exact"],
            "elements that differ": None
            if r["mismatch_rate"] is None
            else f"{r['mismatch_rate']:.2%}",
            "largest step": r["largest_step"],
            "top-1 changes": r["top1_changes"],
        }
        for r in read_rows("har_wisdm")
    ]
    return rows_as(rows, Format.MD)


def host() -> str:
    """Time, size and export of the reference networks on this host."""
    rows = [
        {
            "network": r["model"],
            "export s": r["export_seconds"],
            "C library bytes": r["library_bytes"],
            "onnx bytes": r["onnx_bytes"],
            "tflite bytes": r["tflite_bytes"],
            "C ms": r["c_latency_ms"],
            "ONNX Runtime ms": r["onnxruntime_latency_ms"],
            "LiteRT ms": r["litert_latency_ms"],
            "of ONNX Runtime": r["onnxruntime_kernels"].partition(": ")[2],
            "C / ONNX Runtime": r["c_over_onnxruntime"],
            "C / LiteRT": r["c_over_litert"],
        }
        for r in read_rows("host_latency")
    ]
    return rows_as(rows, Format.MD)


def formats() -> str:
    """Every number format: what it stores, and what a layer of it costs."""
    table = []
    for row in (r for r in read_rows("coded_formats") if r["kind"] == "kernel"):
        element = ELEMENTS.get(row["format"])
        table.append(
            {
                "format": f"`{row['format']}`" if element else row["format"],
                "levels": len(element.levels) if element else 256,
                "bits": row["bits_per_weight"],
                **{
                    f"{core} {kind}": row[f"{key}_{kind}_instructions_per_mac"]
                    for core, key in (("M4", "m4"), ("M0+", "m0plus"))
                    for kind in ("dense", "conv", "depthwise")
                },
            }
        )
    return rows_as(table, Format.MD)


def deployed() -> str:
    """The activity network in every format: size, speed, agreement."""
    rows = [
        {
            "every layer in": f"`{r['precision']}`",
            "packed bytes": r["packed_bytes"],
            "M4 instructions / MAC": r["m4_instructions_per_mac"],
            "of int8": r["m4_int8_instructions_per_mac"],
            "torch = emulated M4": r["m4_identical_to_torch"],
            "ONNX Runtime differs in": f"{r['mismatch_rate']:.1%}",
            "largest step": r["largest_step"],
            "top-1 changes": r["top1_changes"],
        }
        for r in read_rows("coded_formats")
        if r["kind"] == "network"
    ]
    return rows_as(rows, Format.MD)


def study() -> str:
    """Accuracy by precision and method: mean and standard deviation over the seeds."""
    rows = read_rows("quantize")
    columns = list(dict.fromkeys((r["task"], r["split"]) for r in rows))
    table = []
    for method, precision in dict.fromkeys((r["method"], r["precision"]) for r in rows):
        own = [r for r in rows if (r["method"], r["precision"]) == (method, precision)]
        cells: dict[str, Any] = {"precision": f"`{precision}`", "method": method}
        for task, split in columns:
            found = [r for r in own if (r["task"], r["split"]) == (task, split)]
            cells[f"{task}, {split}"] = spread([r["accuracy"] for r in found])
        bits = [r["effective_bits"] for r in own]
        cells["bits per weight"] = f"{min(bits):.2f}…{max(bits):.2f}"
        table.append(cells)
    return rows_as(table, Format.MD)


def spread(values: list[float]) -> str | None:
    """Mean ± standard deviation of a sample, in per cent.

    >>> spread([0.5, 0.52])
    '51.00 ± 1.41 %'
    """
    if not values:
        return None
    mean = f"{100 * statistics.mean(values):.2f}"
    if len(values) == 1:
        return f"{mean} %"
    return f"{mean} ± {100 * statistics.stdev(values):.2f} %"


def quantizers() -> str:
    """A training step with quantisation over one without."""
    rows = [r for r in read_rows("quantizers") if r["what"] == "training step"]
    table = []
    for network, precision in dict.fromkeys((r["network"], r["precision"]) for r in rows):
        own = {
            r["library"]: r["step_over_float"]
            for r in rows
            if (r["network"], r["precision"]) == (network, precision)
        }
        if precision != "fp32":
            table.append(
                {
                    "network": network,
                    "precision": f"`{precision}`",
                    "edgekit / float": own["edgekit"],
                    "Brevitas / float": own.get("brevitas"),
                }
            )
    return rows_as(table, Format.MD)


def results() -> str:
    """Instructions per MAC by model and core, from the results file."""
    rows = read_rows("reference_models")
    cores = list(dict.fromkeys(r["core"] for r in rows))
    table = []
    for model in dict.fromkeys(r["model"] for r in rows):
        own = {r["core"]: r for r in rows if r["model"] == model}
        first = own["cortex-m4"]
        table.append(
            {
                "network": model,
                "MACs": first["macs"],
                "arena bytes": first["arena_bytes"],
                "weight bytes": first["weights_bytes"],
                "code bytes (M4)": first["code_bytes"] + first["runtime_bytes"],
                "stack bytes (M4)": first["stack_bytes"],
                **{
                    c.removeprefix("cortex-").upper(): own[c]["instructions_per_mac"] for c in cores
                },
                "bit-identical": all(r["bit_identical"] for r in own.values()),
            }
        )
    return rows_as(table, Format.MD)


def cycles() -> str:
    """How far the cycle model is off: kinds of cases, by core."""
    rows = read_rows("cycles")
    table = []
    for kind, core in dict.fromkeys((r["kind"], r["core"]) for r in rows):
        own = [r for r in rows if (r["kind"], r["core"]) == (kind, core)]
        errors = [r["error"] for r in own if r["error"] is not None]
        assumed = ", those of the M4 assumed" if any(r.get("assumed") for r in own) else ""
        table.append(
            {
                "compared with": CYCLE_KINDS[kind] + assumed,
                "core": core.removeprefix("cortex-").replace("plus", "+").upper(),
                "cases": len(own),
                "within a manual's range": sum(r["error"] is None for r in own) or None,
                "lowest error": f"{min(errors):+.1%}",
                "highest error": f"{max(errors):+.1%}",
            }
        )
    return rows_as(table, Format.MD)


def boards() -> str:
    """Modelled latency of the reference networks on every board, and estimated energy."""
    rows = read_rows("boards")
    table = []
    for board in dict.fromkeys(r["board"] for r in rows):
        own = {r["model"]: r for r in rows if r["board"] == board}
        first = own["kws_dscnn_int8"]
        line: dict[str, Any] = {"board": board, "MHz": first["clock_hz"] / 1e6}
        for model, entry in own.items():
            name = model.split("_")[0].upper()
            line[f"{name} ms"] = float(f"{entry['latency_ms']:.3g}") if entry["fits"] else "no room"
        low, high = first["energy_low_uj"], first["energy_high_uj"]
        line["KWS mJ (estimated)"] = None
        if first["energy_uj"] is not None:
            line["KWS mJ (estimated)"] = (
                f"{first['energy_uj'] / 1000:.2g} ({low / 1000:.2g}…{high / 1000:.2g})"
            )
        table.append(line)
    return rows_as(table, Format.MD)


def spiking() -> str:
    """Activity recognition by network, precision and split: accuracy, spikes, cycles."""
    rows = read_rows("har")
    table = []
    networks, precisions = (dict.fromkeys(r[key] for r in rows) for key in ("network", "precision"))
    for network, precision in product(networks, precisions):
        own = [r for r in rows if (r["network"], r["precision"]) == (network, precision)]
        if not own:
            continue
        split = {name: [r for r in own if r["split"] == name] for name in ("random", "subject")}
        first = own[0]
        rate, operations = first["spike_rate"], first["synaptic_ops"]
        table.append(
            {
                "network": f"`{network}`",
                "precision": f"`{precision}`",
                "random": spread([r["accuracy"] for r in split["random"]]),
                "subject": spread([r["accuracy"] for r in split["subject"]]),
                "seeds": max(len(found) for found in split.values()),
                "parameters": f"{first['parameters']:,}",
                "kB": round(first["bytes"] / 1000, 1),
                "spike rate": None if rate is None else f"{100 * rate:.1f} %",
                "synaptic ops": None if operations is None else f"{operations:,}",
                "M4 Mcycles (modelled)": round(first["cycles_m4"] / 1e6, 2),
            }
        )
    return rows_as(table, Format.MD)


def spiking_kernels() -> str:
    """Modelled cycles of a synaptic operation on Cortex-M4, over activity."""
    shape = (276, 180)
    rows = [
        r
        for r in read_rows("spiking_kernels")
        if (r["kind"], r["core"], r.get("inputs"), r.get("outputs")) == ("sum", "cortex-m4", *shape)
    ]
    shown = (0.05, 0.1, 0.2, 0.5, 1.0)
    table = []
    for element in dict.fromkeys(r["element"] for r in rows):
        own = [r for r in rows if r["element"] == element]
        event = {r["activity"]: r for r in own if r["schedule"] == "event"}
        line: dict[str, Any] = {"weights": f"`{element}`"}
        for activity in shown:
            cycles = event[activity]["cycles_per_synaptic_operation"]
            line[f"{100 * activity:g} %"] = round(cycles, 2)
        dense = next(r for r in own if r["schedule"] == "dense")
        line["dense, per product"] = round(dense["cycles"] / (shape[0] * shape[1]), 2)
        table.append(line)
    return rows_as(table, Format.MD)


CYCLE_KINDS = {
    "micro-kernel": "hand counts, zero wait states",
    "flash": "hand counts, flash with 0, 2 and 5 wait states",
    "published": "published latencies of networks",
}
"""What the cycle model is compared with, by kind of row."""


SESSION = (
    "edgekit export net:make --calib calib.npz --target nucleo-l4r5zi -o build/net",
    "edgekit verify build/net --data calib.npz --limit 20",
    "edgekit bench build/net",
    "edgekit quantize net:make --precision fp4-e2m1-g32a8 --calib calib.npz --method adaround "
    "-o net.q.onnx",
    "edgekit export net.q.onnx --target nucleo-l4r5zi -o build/fp4",
    "edgekit export net:make --calib calib.npz --target raspberry-pi-5 -o build/pi",
    "edgekit verify build/pi --data calib.npz --backend onnxruntime",
    "edgekit bench build/pi --backend c,onnxruntime,litert --baseline fp32 --input calib.npz",
    "edgekit export net:make --calib calib.npz --target jetson -o build/jetson",
)
"""What the README's session types."""

MEASURED = ("--backend c,",)
"""Commands that measure time: every run prints other figures."""


def python_blocks(text: str) -> list[str]:
    """The README's Python examples, in order."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run_session(folder: Path) -> list[tuple[str, str]]:
    """Run the README's examples and commands in `folder`; each command with what it printed.

    An example that begins with a file name as a comment is saved, the others are run: those before
    the commands first, the last one after them.
    """
    *before, last = python_blocks(README.read_text(encoding="utf-8"))
    for block in before:
        name = re.match(r"# (\w+\.py)\n", block)
        if name is None:
            _run([sys.executable, "-c", block], folder)
        else:
            (folder / name[1]).write_text(block, encoding="utf-8")
    entry = "from edgekit.cli import main; main()"
    printed = [
        (line, _run([sys.executable, "-P", "-c", entry, *line.split()[1:]], folder))
        for line in SESSION
    ]
    _run([sys.executable, "-c", last], folder)
    return printed


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[2:]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def demo() -> str:
    """The demo's table as it prints it."""
    entry = "from edgekit.cli import main; main()"
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-P", "-c", entry, "-q", "demo"]
        return f"```console\n$ make demo\n{_run(command, Path(temporary))}```\n"


def session() -> str:
    """A real session with its real output."""
    with tempfile.TemporaryDirectory() as temporary:
        printed = run_session(Path(temporary))
    blocks = "\n".join(f"$ {command}\n{output}" for command, output in printed)
    return f"```console\n{blocks}```\n"


SECTIONS: dict[str, Callable[[], str]] = {
    "zoo": zoo,
    "targets": targets,
    "har": har,
    "host": host,
    "results": results,
    "formats": formats,
    "deployed": deployed,
    "study": study,
    "quantizers": quantizers,
    "cycles": cycles,
    "boards": boards,
    "spiking": spiking,
    "spiking_kernels": spiking_kernels,
}


def rendered(text: str, sections: dict[str, Callable[[], str]] = SECTIONS) -> str:
    """The README with marked sections replaced."""
    for name, make in sections.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text, count = re.subn(pattern, lambda m: m[1] + make() + m[2], text, flags=re.DOTALL)  # noqa: B023
        assert count == 1, f"README.md has {count} sections {name!r}"
    return text


def main() -> int:
    """Rewrite or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    new = rendered(text)
    if arguments.check:
        return int(new != text)
    new = rendered(new, {"session": session, "demo": demo})
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
