"""What lies beside the generated sources: build snippets, integration notes, a self-test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.program.ir import Array
from edgekit.targets.c import text
from edgekit.targets.c.emit import LICENCE, Emission, template_environment


@dataclass(frozen=True, eq=False)
class Vector:
    """One test vector: bytes of every input and output, as the arena holds them.

    Of a window there are the samples of each input, one behind the other, and the last outputs.
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]

    @classmethod
    def of(cls, inputs: Sequence[Array], outputs: Sequence[Array]) -> Vector:
        """From arrays in the Program's layout and dtypes."""
        return cls(tuple(map(_bytes, inputs)), tuple(map(_bytes, outputs)))


def _bytes(array: Array) -> Array:
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


def companion_files(
    emission: Emission,
    vectors: Sequence[Vector],
    *,
    separate_weights: bool,
    origin: str,
    version: str,
) -> dict[str, str]:
    """Text files by path in the artifact.

    Args:
        emission: the generated library, whose files go to ``src/``.
        vectors: become ``test/selftest.c``; with separate weights there is none, since a program
            for the host cannot know where the blob lies.
        separate_weights: as the library was generated.
        origin: of the vectors' inputs, in words.
        version: edgekit's.
    """
    library = emission.library
    source = text.comment(emission.program.source or emission.program.name, 100)
    context = {
        "library": library,
        "name": library.name,
        "upper": library.name.upper(),
        "separate": separate_weights,
        "source": source,
        "version": version,
        "vectors": vectors,
        "origin": text.comment(origin),
        "text": text,
        "e": emission,
    }
    environment = template_environment()
    files = {
        "README.md": environment.get_template("README.md.j2").render(context),
        "CMakeLists.txt": environment.get_template("CMakeLists.txt.j2").render(context),
        f"{library.name}.mk": environment.get_template("model.mk.j2").render(context),
    }
    if not separate_weights:
        head = LICENCE.format(what="Self-test of the network.", version=version, source=source)
        body = environment.get_template("selftest.c.j2").render(context)
        files["test/selftest.c"] = head + body
    return files
