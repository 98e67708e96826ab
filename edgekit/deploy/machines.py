"""Which machine runs a generated library on which device."""

from __future__ import annotations

from edgekit.errors import DeviceMissingError, OutputError
from edgekit.targets.arm_cpu.machine import open_shared
from edgekit.targets.arm_cpu.shared import SharedObject
from edgekit.targets.booted import BootedMachine
from edgekit.targets.elf import Elf
from edgekit.targets.emulated import EmulatedMachine
from edgekit.targets.host import HostMachine
from edgekit.targets.image import LinkedImage
from edgekit.targets.library import Library
from edgekit.targets.machine import Machine
from edgekit.targets.target import Target

DEVICES = ("local", "emulator", "qemu")


def open_library(
    library: Library, where: Target, device: str, built: LinkedImage | SharedObject | None
) -> Machine:
    """A machine that runs a library.

    Args:
        library: the generated C.
        where: what it was built for.
        device: ``local``, ``emulator`` or ``qemu``.
        built: the image or shared object that it was built into, None where it is source only.

    Raises:
        DeviceMissingError: no such device.
        ToolchainMissingError: what the device needs is not installed.
    """
    if device not in DEVICES:
        raise DeviceMissingError(f"no device {device!r}; known: {', '.join(DEVICES)}")
    if isinstance(built, SharedObject) and device in where.devices:
        return open_shared(library, where, device, built)
    if device == "local":
        return HostMachine(library, library.blob)
    if not isinstance(built, LinkedImage):
        raise OutputError("the artifact has no image; export it for a microcontroller")
    if device == "qemu":
        return BootedMachine(library, where, built)
    return EmulatedMachine(library, where, Elf.read(built.path), build=built.build)
