"""Render the README's tables from the tables of the code and from ``results/``.

::

    python benchmarks/render_readme.py           # rewrites README.md between its markers
    python benchmarks/render_readme.py --check   # fails where a table is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit.cli.render import Format, rows_as
from edgekit.targets.legality import FORMATS, has_hardware_float
from edgekit.targets.target import builtin_targets

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def targets() -> str:
    """Formats × targets."""
    rows = []
    for target in builtin_targets().values():
        flash, ram = target.program_bytes // 1024, target.data_bytes // 1024
        rows.append(
            {
                "target": f"`{target.name}`",
                "core": target.core.name if target.core else "this machine",
                "flash / RAM KiB": f"{flash:,} / {ram:,}" if target.board else None,
                **{
                    str(f): "soft-float"
                    if str(f) == "float32" and not has_hardware_float(target)
                    else "yes"
                    for f in FORMATS
                },
                "runs here on": target.devices,
                "status": target.status,
            }
        )
    return rows_as(rows, Format.MD)


def results() -> str:
    """Instructions per MAC by model and core, from the results file."""
    path = ROOT / "results" / "reference_models.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
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


SESSION = (
    "edgekit export digits.onnx --calib calib.npz --target nucleo-l4r5zi -o build/digits",
    "edgekit verify build/digits --data calib.npz --limit 20",
    "edgekit bench build/digits --device emulator",
)
"""What the README's session types."""


def python_blocks(text: str) -> list[str]:
    """The README's Python examples, in order."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run_session(folder: Path) -> list[tuple[str, str]]:
    """Run the README's examples and commands in `folder`; each command with what it printed."""
    first, *others = python_blocks(README.read_text(encoding="utf-8"))
    _run([sys.executable, "-P", "-c", first], folder)
    entry = "from edgekit.cli import main; main()"
    printed = [
        (line, _run([sys.executable, "-P", "-c", entry, *line.split()[1:]], folder))
        for line in SESSION
    ]
    for block in others:
        _run([sys.executable, "-P", "-c", block], folder)
    return printed


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[3:]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def session() -> str:
    """A real session with its real output."""
    with tempfile.TemporaryDirectory() as temporary:
        printed = run_session(Path(temporary))
    blocks = "\n".join(f"$ {command}\n{output}" for command, output in printed)
    return f"```console\n{blocks}```\n"


SECTIONS: dict[str, Callable[[], str]] = {
    "targets": targets,
    "results": results,
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
    new = rendered(new, {"session": session})
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
