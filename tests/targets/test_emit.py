"""The generated C: safe names, two instances, state, blobs, every compiler's warnings."""

from __future__ import annotations

import ctypes
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgekit.program.fuse import fuse_residual
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Program
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.c.extras import Vector, companion_files
from edgekit.targets.host import HostMachine, write_files
from tests.cases.case import random_array
from tests.support.chain import STRICT, assert_identical, check, run_machine
from tests.support.programs import recurrent_network, residual_network

pytestmark = pytest.mark.needs("cc")

SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")


def samples(program: Program, count: int = 3) -> list[dict[str, np.ndarray]]:
    """Seeded inputs in the source layout."""
    rng = np.random.default_rng(7)
    return [
        {
            b.name: random_array(rng, t.type).reshape(b.source_shape)
            for b, t in zip(program.inputs, program.input_tensors, strict=True)
        }
        for _ in range(count)
    ]


def vectors(emission: Emission, count: int = 3) -> list[Vector]:
    """Inputs and exact outputs as the arena holds them."""
    program = emission.program
    made = []
    for sample in samples(program, count):
        values: dict[str, np.ndarray] = {}
        Interpreter(program).run(sample, values.__setitem__)
        made.append(
            Vector.of(
                [values[b.tensor] for b in program.inputs],
                [values[b.tensor] for b in program.outputs],
            )
        )
    return made


def write_all(emission: Emission, folder: Path, separate: bool = False) -> None:
    """Library, snippets and self-test, as an artifact has them."""
    write_files(emission.library, folder / "src")
    files = companion_files(
        emission, vectors(emission), separate_weights=separate, origin="seed 7", version="test"
    )
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("make", [residual_network, recurrent_network])
def test_host_equals_interpreter(make: object) -> None:
    """Every sample, to the bit."""
    program = make()
    emission = emit(program, version="test")
    check(HostMachine(emission.library, flags=STRICT), emission, samples(program))


def test_fused_residual_is_the_same_arithmetic() -> None:
    """Fusing changes the arena, not a bit of the result."""
    program = residual_network()
    fused, modified = fuse_residual(program)
    assert modified
    assert [op.operator.name for op in fused.operations].count("add") == 0
    emission, plain = emit(fused, version="test"), emit(program, version="test")
    assert emission.library.arena_bytes < plain.library.arena_bytes
    machine = HostMachine(emission.library, flags=STRICT)
    for sample in samples(program, 5):
        want = Interpreter(program).run(sample)
        assert_identical(want, Interpreter(fused).run(sample))
        assert_identical(want, run_machine(machine, emission, sample))


def test_state_is_carried_and_reset() -> None:
    """Steps carry, reset starts over, run starts over by itself."""
    program = recurrent_network()
    emission = emit(program, version="test")
    machine = HostMachine(emission.library, flags=STRICT)
    interpreter = Interpreter(program)
    stream = samples(program, 4)
    first = [run_machine(machine, emission, s, step=True) for s in stream]
    for sample, got in zip(stream, first, strict=True):
        assert_identical(interpreter.step(sample), got)
    machine.reset()
    again = [run_machine(machine, emission, s, step=True) for s in stream]
    for one, two in zip(first, again, strict=True):
        assert_identical(one, two)
    assert_identical(interpreter.run(stream[0]), run_machine(machine, emission, stream[0]))
    assert (first[0]["h"] != first[1]["h"]).any()


def test_two_networks_and_two_instances_side_by_side(tmp_path: Path) -> None:
    """One program links both, gives each an instance of its own, two to the recurrent one."""
    one = emit(residual_network("first"), version="test")
    two = emit(recurrent_network("second"), version="test")
    for emission in (one, two):
        write_all(emission, tmp_path / emission.library.name)
    (tmp_path / "main.c").write_text(
        r"""
#include <stdio.h>
#include "first.h"
#include "second.h"
static uint8_t arena_a[FIRST_ARENA_BYTES] __attribute__((aligned(FIRST_ALIGNMENT)));
static uint8_t arena_b[SECOND_ARENA_BYTES] __attribute__((aligned(SECOND_ALIGNMENT)));
static uint8_t arena_c[SECOND_ARENA_BYTES] __attribute__((aligned(SECOND_ALIGNMENT)));
static uint8_t state_b[SECOND_STATE_BYTES] __attribute__((aligned(SECOND_ALIGNMENT)));
static uint8_t state_c[SECOND_STATE_BYTES] __attribute__((aligned(SECOND_ALIGNMENT)));
int main(void)
{
    first_context a;
    second_context b, c;
    if (first_init(&a, arena_a, NULL, NULL) || second_init(&b, arena_b, state_b, NULL)
        || second_init(&c, arena_c, state_c, NULL)) {
        return 1;
    }
    for (int i = 0; i < 3; i++) {
        second_input_0(&b)[0] = second_input_0(&c)[0] = 1.0f;
        second_input_0(&b)[1] = second_input_0(&c)[1] = 0.25f;
        second_input_0(&b)[2] = second_input_0(&c)[2] = -1.0f;
        second_step(&b);
        if (i == 2) second_reset(&c);
        if (i != 1) second_step(&c);
        first_run(&a);
    }
    second_context reference;
    (void)reference;
    printf("%a %a\n", (double)second_output_0(&b)[0], (double)second_output_0(&c)[0]);
    return 0;
}
"""
    )
    sources = [
        str(p) for name in ("first", "second") for p in (tmp_path / name / "src").glob("*.c")
    ]
    command = ["cc", *STRICT, "-std=c99", "-ffp-contract=off", *SANITIZE]
    command += ["-I", str(tmp_path / "first/src"), "-I", str(tmp_path / "second/src")]
    command += ["-o", str(tmp_path / "both"), str(tmp_path / "main.c"), *sources]
    subprocess.run(command, check=True)
    done = subprocess.run([tmp_path / "both"], check=True, capture_output=True, text=True)
    got = [float.fromhex(word) for word in done.stdout.split()]
    interpreter = Interpreter(recurrent_network())
    x = {"x": np.float32([[1, 0.25, -1]])}
    third = [interpreter.step(x)["h"] for _ in range(3)][-1]
    assert got == [float(third[0, 0]), float(interpreter.run(x)["h"][0, 0])]


@pytest.mark.parametrize("make", [residual_network, recurrent_network])
@pytest.mark.parametrize(
    "compiler", ["gcc", pytest.param("clang", marks=pytest.mark.needs("clang"))]
)
def test_clean_under_warnings_and_sanitizers(tmp_path: Path, make: object, compiler: str) -> None:
    """Every warning is an error, and the self-test runs, under GCC's sanitizers too."""
    emission = emit(make(), version="test")
    write_all(emission, tmp_path)
    sources = [str(p) for p in (tmp_path / "src").glob("*.c")]
    command = [compiler, *STRICT, "-std=c99", "-pedantic", "-O1", "-ffp-contract=off"]
    # Clang's sanitizer runtime is a package of its own; GCC brings its one.
    command += SANITIZE if compiler == "gcc" else ()
    command += ["-I", str(tmp_path / "src"), "-o", str(tmp_path / "run")]
    subprocess.run([*command, *sources, str(tmp_path / "test/selftest.c")], check=True)
    subprocess.run([tmp_path / "run"], check=True)


def test_self_test_can_fail(tmp_path: Path) -> None:
    """A changed weight is noticed by the self-test."""
    emission = emit(residual_network(), version="test")
    write_all(emission, tmp_path)
    weights = tmp_path / "src" / "residual_weights.c"
    text = weights.read_text()
    start = text.index("{", text.index(".fully_connected_4_w = ")) + 1
    weights.write_text(text[:start] + re.sub(r"-?\d+", "100", text[start:], count=40))
    sources = [str(p) for p in (tmp_path / "src").glob("*.c")]
    command = ["cc", "-std=c99", "-w", "-I", str(tmp_path / "src"), "-o", str(tmp_path / "run")]
    subprocess.run([*command, *sources, str(tmp_path / "test/selftest.c")], check=True)
    assert subprocess.run([tmp_path / "run"], check=False).returncode == 1


@pytest.mark.needs("c++")
def test_header_is_safe_in_cpp(tmp_path: Path) -> None:
    """The public header and every kernel header compile as C++."""
    emission = emit(residual_network(), version="test")
    write_files(emission.library, tmp_path)
    headers = [n for n in emission.library.files if n.endswith(".h") and n != "ek_config.h"]
    text = "".join(f'#include "{name}"\n' for name in sorted(headers))
    (tmp_path / "all.cpp").write_text(text + "int main() { return RESIDUAL_OK; }\n")
    command = ["c++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "all.cpp"]
    subprocess.run(command, check=True, cwd=tmp_path)


@pytest.mark.parametrize("make", [residual_network, recurrent_network])
@pytest.mark.parametrize("separate", [False, True])
def test_the_integration_example_compiles(tmp_path: Path, make: object, separate: bool) -> None:
    """The C in the generated README is C, with and without state and separate weights."""
    emission = emit(make(), separate_weights=separate, version="test")
    write_all(emission, tmp_path, separate)
    readme = (tmp_path / "README.md").read_text()
    (block,) = re.findall(r"```c\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "example.c").write_text(block)
    assert ("selftest" in readme) == (tmp_path / "test").is_dir()
    command = ["cc", *STRICT, "-std=c99", "-I", "src", "-c", "example.c", "-o", "example.o"]
    subprocess.run(command, check=True, cwd=tmp_path)


def test_snippets_build(tmp_path: Path) -> None:
    """The Make snippet builds and runs the self-test as its documentation says."""
    emission = emit(residual_network(), version="test")
    write_all(emission, tmp_path / "net")
    command = ["make", "-f", "net/residual.mk", "residual_selftest"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "0 of 3 outputs differ" in done.stdout


@pytest.mark.needs("cmake")
def test_cmake_snippet_builds(tmp_path: Path) -> None:
    """The CMake snippet builds the library and the self-test."""
    emission = emit(residual_network(), version="test")
    write_all(emission, tmp_path / "net")
    subprocess.run(["cmake", "-S", "net", "-B", "out"], cwd=tmp_path, check=True)
    command = ["cmake", "--build", "out", "--target", "residual_selftest"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "out" / "residual_selftest"], check=True)


def test_weights_as_a_blob() -> None:
    """The blob gives the same results; a foreign, older or cut one is refused."""
    program = residual_network()
    emission = emit(program, separate_weights=True, version="test")
    assert "residual_weights.c" not in emission.library.files
    blob = emission.library.files["residual_weights.bin"]
    assert isinstance(blob, bytes)
    assert len(blob) == emission.library.weights_bytes
    check(HostMachine(emission.library, blob, flags=STRICT), emission, samples(program))
    for position in (0, 4, 8):
        (word,) = struct.unpack_from("<I", blob, position)
        changed = bytearray(blob)
        struct.pack_into("<I", changed, position, word ^ 1)
        with pytest.raises(AssertionError, match="init answered -2"):
            HostMachine(emission.library, bytes(changed))


def test_weights_check_sees_a_flipped_bit() -> None:
    """The CRC over the blob fails for any changed byte behind the header."""
    emission = emit(residual_network(), separate_weights=True, version="test")
    blob = bytearray(emission.library.files["residual_weights.bin"])
    for flip, expected in ((None, 1), (16, 0), (len(blob) - 1, 0)):
        data = bytearray(blob)
        if flip is not None:
            data[flip] ^= 4
        machine = HostMachine(emission.library, bytes(data))
        function = machine._function("weights_intact")
        function.restype = ctypes.c_int
        assert function(machine._context) == expected


def test_hostile_names_stay_inside_comments() -> None:
    """Quotes, newlines and comment ends from a model never reach C as they are."""
    program = residual_network('evil"; */ int x;\n#include "/etc/passwd')
    emission = emit(program.replace(source='a"*/\n#error\n'), version="test")
    for name, text in emission.library.files.items():
        assert isinstance(text, str)
        assert "#error" not in [line.strip() for line in text.splitlines()], name
        assert "passwd" not in text.replace(emission.library.name, ""), name
    HostMachine(emission.library, flags=STRICT).close()


def test_the_same_program_gives_the_same_bytes() -> None:
    """Nothing depends on the order of sets or the time."""
    assert emit(residual_network(), version="1").library.files == (
        emit(residual_network(), version="1").library.files
    )


def test_no_compiler_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    from edgekit.errors import ToolchainMissingError
    from edgekit.targets import host

    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(host, "installed_version", lambda name: None)
    emission = emit(residual_network(), version="test")
    with pytest.raises(ToolchainMissingError, match="install gcc"):
        HostMachine(emission.library)
