"""Libraries built anew for an artifact's target, to be counted beside what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.deploy.comparison import Opener
from edgekit.deploy.machines import open_library
from edgekit.targets.arm_cpu.shared import build_shared
from edgekit.targets.arm_cpu.toolchain import find_cross
from edgekit.targets.image import build_image
from edgekit.targets.library import Library
from edgekit.targets.machine import Machine
from edgekit.targets.target import MICROCONTROLLER
from edgekit.targets.toolchain import find_toolchain

if TYPE_CHECKING:
    from edgekit.deploy.artifact import Artifact

__all__ = ["Opener", "opener"]


def opener(artifact: Artifact, device: str) -> Opener:
    """Builds for the artifact's target with its toolchain, and opens on a device."""
    target, configuration = artifact.target, artifact.manifest.configuration

    def image(library: Library, folder: Path) -> Machine:
        toolchain = find_toolchain(configuration.toolchain or None)
        built = build_image(
            library,
            target,
            folder=folder,
            toolchain=toolchain,
            stack_bytes=configuration.stack_bytes,
        )
        built.require_fit()
        return open_library(library, target, device, built.linked)

    def shared(library: Library, folder: Path) -> Machine:
        assert target.cpu is not None
        tools = find_cross(target.cpu, configuration.toolchain or None)
        built = build_shared(library, target.cpu, folder=folder, toolchain=tools)
        return open_library(library, target, device, built)

    return image if target.family == MICROCONTROLLER else shared
