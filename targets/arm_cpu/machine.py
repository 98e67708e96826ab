"""A shared object as a machine: emulated, under QEMU, or loaded into this process."""

from __future__ import annotations

from edgekit.bench.costs import CycleModel
from edgekit.errors import DeviceMissingError
from edgekit.targets.arm_cpu.cpus import Cpu
from edgekit.targets.arm_cpu.emulator import SharedEmulator
from edgekit.targets.arm_cpu.loader import SharedImage
from edgekit.targets.arm_cpu.shared import SharedObject
from edgekit.targets.arm_cpu.user import UserMachine
from edgekit.targets.emulated import CalledMachine
from edgekit.targets.host import LoadedMachine
from edgekit.targets.library import Library
from edgekit.targets.machine import Machine
from edgekit.targets.target import Target
from edgekit.targets.tracing import INSTRUCTION_LIMIT, TIMEOUT_S

CONTEXT_ADDRESSES = 4
"""Room for an instance, which belongs to the library: it holds three addresses."""


class SharedMachine(CalledMachine):
    """A library, initialised, in its shared object on an emulated processor.

    Args:
        library: what is in the file.
        cpu: what it was built for.
        shared: the file.
        timeout_s: wall-clock limit of one call.
        instruction_limit: limit of one counted call.

    Raises:
        UnsupportedError: there is no emulator for the processor.
        DoesNotFitError: the arena is larger than the emulated memory.
    """

    def __init__(
        self,
        library: Library,
        cpu: Cpu,
        shared: SharedObject,
        *,
        timeout_s: float = TIMEOUT_S,
        instruction_limit: int = INSTRUCTION_LIMIT,
    ) -> None:
        image = SharedImage.read(shared.path)
        self.emulator = SharedEmulator(
            cpu, image, timeout_s=timeout_s, instruction_limit=instruction_limit
        )
        allocate, alignment = self.emulator.allocate, library.arena_alignment
        weights = 0
        if library.blob is not None:
            weights = allocate(len(library.blob), alignment)
            self.emulator.write(weights, library.blob)
        super().__init__(
            library,
            self.emulator,
            arena=allocate(library.arena_bytes, alignment),
            context=allocate(CONTEXT_ADDRESSES * image.word_bytes, image.word_bytes),
            state=allocate(library.state_bytes, alignment) if library.state_bytes else 0,
            weights=weights,
            build=shared.build,
        )

    @property
    def cycle_model(self) -> CycleModel | None:
        """See :attr:`SharedEmulator.cycle_model`."""
        return self.emulator.cycle_model


def open_shared(library: Library, where: Target, device: str, shared: SharedObject) -> Machine:
    """A machine that runs a shared object.

    Args:
        library: what is in the file.
        where: what it was built for, of the family ``arm-cpu``.
        device: ``local``, ``emulator`` or ``qemu``.
        shared: the file.

    Raises:
        DeviceMissingError: no such device, or this machine does not execute the processor's
            instructions.
        ToolchainMissingError: what the device needs is not installed.
        UnsupportedError: the device does not know the processor.
    """
    cpu = where.cpu
    assert cpu is not None, f"{where.name} has no application processor"
    if device == "emulator":
        return SharedMachine(library, cpu, shared)
    if device == "qemu":
        return UserMachine(library, cpu, shared)
    if device != "local":
        raise DeviceMissingError(f"no device {device!r}; known: local, emulator, qemu")
    if not cpu.runs_here:
        raise DeviceMissingError(
            f"this machine does not execute code for {cpu.name}; use {' or '.join(cpu.devices)}"
        )
    return LoadedMachine(library, shared.path, build=shared.build, weights=library.blob)
