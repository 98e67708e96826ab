"""The kernels' sources as such: what they refuse to be compiled with, and that they get along."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit.targets.c.bindings  # noqa: F401  fills the kernel table
from edgekit.targets.c.emit import kernel_files
from edgekit.targets.c.kernel import KERNEL_FOLDER, KERNELS
from tests.support.chain import STRICT

NAMES = sorted({k.name for k in KERNELS if k.folder == KERNEL_FOLDER})
C_LIBRARY = KERNEL_FOLDER.parents[1] / "microcontroller" / "image"
"""Has a string.h for compilers that bring none."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an ``ek_config.h``."""
    (tmp_path / "ek_config.h").write_text("#define EK_PREFIX test_\n")
    return tmp_path


def check(folder: Path, source: str, *command: str) -> str:
    """What the compiler says of `source`; empty where it accepts it."""
    (folder / "source.c").write_text(source)
    include = [f"-I{folder}", f"-I{KERNEL_FOLDER}"]
    line = [*command, "-std=c99", "-fsyntax-only", *include, "source.c"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode == 0) == ("error" not in done.stderr), done.stderr
    return done.stderr if done.returncode else ""


def has_floats(name: str) -> bool:
    """Whether a kernel's own two files mention float."""
    texts = ((KERNEL_FOLDER / f"{name}.{end}").read_text() for end in "ch")
    return any(re.search(r"\bfloat\b", re.sub(r"/\*.*?\*/", "", t, flags=re.S)) for t in texts)


FLOAT = [name for name in NAMES if has_floats(name)]


def test_float_kernels_are_told_from_others() -> None:
    """Those called so have floats, those of integers alone do not."""
    assert {n for n in NAMES if re.search(r"f32|dequantize|dynamic", n)} == set(FLOAT)


@pytest.mark.parametrize("name", FLOAT)
def test_float_kernels_check_their_arithmetic(name: str) -> None:
    """The check travels with every kernel on float, whatever else a library holds."""
    (kernel, *_) = (k for k in KERNELS if k.name == name)
    assert "ek_ieee.h" in kernel_files((kernel,))


@pytest.mark.needs("cc")
@pytest.mark.parametrize("name", FLOAT)
def test_float_kernels_refuse_fast_math(folder: Path, name: str) -> None:
    """An error says what to build without."""
    source = f'#include "{name}.c"\n'
    assert check(folder, source, "cc") == ""
    assert "build without -ffast-math" in check(folder, source, "cc", "-ffast-math")


@pytest.mark.needs("cc")
@pytest.mark.parametrize(("method", "refused"), [(0, False), (16, False), (1, True), (2, True)])
def test_wide_evaluation_is_refused(folder: Path, method: int, refused: bool) -> None:
    """Of float, not of half precision: GCC says 16 where a Cortex-M55 has instructions for it."""
    flags = ("-U__FLT_EVAL_METHOD__", f"-D__FLT_EVAL_METHOD__={method}")
    said = check(folder, '#include "ek_ieee.h"\n', "cc", *flags)
    assert ("float arithmetic in float" in said) == refused


@pytest.mark.needs("ziglang")
def test_int_of_16_bits_is_refused(folder: Path) -> None:
    """Products of 16-bit values would overflow there."""
    zig = [sys.executable, "-P", "-m", "ziglang", "cc", f"-I{C_LIBRARY}"]
    said = check(folder, '#include "ek_common.h"\n', *zig, "-target", "avr-freestanding")
    assert "ek_needs_int_of_32_bits" in said


@pytest.mark.needs("cc")
def test_all_kernels_in_one_file(folder: Path) -> None:
    """Builds that join sources (unity builds) find no name twice."""
    source = "".join(f'#include "{name}.c"\n' for name in NAMES)
    assert check(folder, source, "cc", *STRICT) == ""
