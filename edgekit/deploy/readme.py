"""The README of an artifact, where it says more than how to compile the C sources."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import jinja2

from edgekit.deploy.manifest import ModelFile
from edgekit.targets.c import text
from edgekit.targets.target import Target
from edgekit.version import edgekit_version


def jetson_readme(
    name: str,
    target: Target,
    *,
    source: str,
    models: Sequence[ModelFile],
    majors: Sequence[int],
    notes: Sequence[str],
) -> str:
    """How to build engines on the device and measure them.

    Args:
        name: of the network.
        target: the Jetson module.
        source: file of the source model; any text.
        models: what was written, the deployed one first.
        majors: versions of TensorRT whose rules hold.
        notes: what the user should hear of.
    """
    return _rendered(
        "jetson.md.j2",
        name=name,
        target=target,
        source=text.comment(source, 100),
        models=models,
        majors=" and ".join(map(str, majors)),
        notes=[text.comment(note, 400) for note in notes],
        version=edgekit_version(),
    )


def processor_section(
    target: Target, *, library: str, models: Sequence[ModelFile], notes: Sequence[str]
) -> str:
    """What else lies beside the C sources, to follow their own notes.

    Args:
        target: the computer or processor.
        library: file name of the shared object.
        models: files for other runtimes.
        notes: what the user should hear of.
    """
    return _rendered(
        "processor.md.j2",
        target=target,
        library=library,
        models=models,
        backends=",".join(dict.fromkeys(["c", *(model.runtime for model in models)])),
        notes=[text.comment(note, 400) for note in notes],
    )


def _rendered(template: str, **context: object) -> str:
    folder = resources.files("edgekit.deploy") / "templates"
    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown; names come through text.comment
    )
    source = (folder / template).read_text(encoding="utf-8")
    return environment.from_string(source).render(context)
