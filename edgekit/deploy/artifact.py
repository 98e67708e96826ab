"""An Artifact: a folder with generated C, what it was built into, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from edgekit.deploy import benchmark, verification
from edgekit.deploy.data import Samples, read_arrays, samples_for
from edgekit.deploy.manifest import Manifest, check_files, read_manifest
from edgekit.deploy.session import Session
from edgekit.errors import DeviceMissingError, OutputError, UnsupportedError, UsageError
from edgekit.program import serialize
from edgekit.program.ir import Array, Program
from edgekit.targets.booted import BootedMachine
from edgekit.targets.elf import Elf
from edgekit.targets.emulated import EmulatedMachine
from edgekit.targets.host import HostMachine
from edgekit.targets.image import LinkedImage
from edgekit.targets.library import Layer, Library
from edgekit.targets.machine import Build, Machine
from edgekit.targets.target import Target, target

SOURCES = "src"
IMAGE = "image.elf"
BOARD = "board.toml"
EMULATED_SAMPLES = 100
"""Samples that verification runs in an emulator unless told otherwise."""

Data = Path | str | Mapping[str, Array] | Array


class Artifact:
    """An exported network.

    Args:
        folder: where it lies.
        manifest: read from it.

    Example::

        artifact = edgekit.load("build/kws")
        with artifact.open() as session:
            y = session.run(x)
        print(artifact.verify("test.npz").accuracy)
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    def __repr__(self) -> str:
        return f"Artifact({str(self.folder)!r}, target={self.manifest.configuration.target!r})"

    @cached_property
    def program(self) -> Program:
        """What the generated code computes, in its order."""
        return serialize.read(self.folder)

    @cached_property
    def reference(self) -> Program | None:
        """The float model that it was quantised from, where there is one."""
        folder = self.folder / "reference"
        return serialize.read(folder) if folder.is_dir() else None

    @cached_property
    def target(self) -> Target:
        """What it was built for; a board of the user's own is described in the artifact."""
        board = self.folder / BOARD
        return target(str(board) if board.is_file() else self.manifest.configuration.target)

    @cached_property
    def library(self) -> Library:
        """The generated C."""
        interface = self.manifest.interface
        inside = f"{SOURCES}/"
        files: dict[str, str | bytes] = {
            record.path.removeprefix(inside): (self.folder / record.path).read_bytes()
            for record in self.manifest.files
            if record.path.startswith(inside)
        }
        return Library(
            name=self.manifest.configuration.name,
            prefix=interface.prefix,
            files=files,
            arena_bytes=interface.arena_bytes,
            arena_alignment=interface.arena_alignment,
            state_bytes=interface.state_bytes,
            weights_bytes=interface.weights_bytes,
            inputs=interface.inputs,
            outputs=interface.outputs,
            layers=tuple(
                Layer(layer.symbol, layer.operation, layer.operator)
                for layer in self.manifest.layers
            ),
        )

    @property
    def _linked(self) -> LinkedImage | None:
        """Its image, None where nothing was linked."""
        record = self.manifest.build
        if record is None:
            return None
        build = Build(record.toolchain, record.version, record.flags)
        return LinkedImage(self.folder / IMAGE, build, self.manifest.configuration.stack_bytes)

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that can run it here; the first is the default."""
        own = self.target.devices
        return own if "local" in own else (*own, "local")

    def open(self, device: str | None = None) -> Session:
        """Run it somewhere.

        Args:
            device: ``local`` (its C code compiled for this machine), ``emulator``, ``qemu``; None
                for the target's own.

        Raises:
            UnsupportedError: no such device for this target; lists those there are.
            ToolchainMissingError: no C compiler on this machine.
        """
        device = device or self.devices[0]
        if device not in self.devices:
            raise UnsupportedError(
                f"{self.target.name} has no device {device!r}; it has {', '.join(self.devices)}"
            )
        machine = open_library(self.library, self.target, device, self._linked)
        return Session(self.program, self.library, self.manifest.layers, machine, device)

    def samples(self, data: Data | None, limit: int | None = None) -> tuple[Samples, int]:
        """Samples for its inputs, at most `limit`, and how many there were.

        None takes the artifact's own test vectors.

        Raises:
            InvalidDataError: the data does not fit the inputs.
        """
        if limit is not None and limit < 1:
            raise UsageError(f"limit is {limit}, must be positive")
        if data is None:
            samples = samples_for(self.program, _vectors(self.folder), raw=True)
        else:
            samples = samples_for(self.program, data)
        return (samples if limit is None else samples.first(limit)), len(samples)

    def verify(
        self, data: Data | None = None, *, device: str | None = None, limit: int | None = None
    ) -> verification.VerifyReport:
        """Compare the deployed code with its exact reference and any float model.

        Args:
            data: samples, labels optional; see :mod:`edgekit.deploy.data`. None takes the
                artifact's test vectors.
            device: see :meth:`open`.
            limit: samples to run; None for all on the host and the first hundred in an emulator.

        Raises:
            InvalidDataError: the data does not fit the inputs.
        """
        device = device or self.devices[0]
        if limit is None and device != "local":
            limit = EMULATED_SAMPLES
        samples, available = self.samples(data, limit)
        with self.open(device) as session:
            return verification.verify(
                session, samples, reference=self.reference, available=available
            )

    def bench(
        self,
        data: Data | None = None,
        *,
        device: str | None = None,
        protocol: benchmark.Protocol | None = None,
    ) -> benchmark.BenchReport:
        """Cost of one inference on a device.

        Args:
            data: the first sample is run; None for a seeded random input.
            device: see :meth:`open`.
            protocol: how real execution is measured.
        """
        if data is None:
            inputs: Mapping[str, Array] = benchmark.seeded_inputs(
                self.program, self.manifest.configuration.seed
            )
            source = f"random, seed {self.manifest.configuration.seed}"
        else:
            inputs = self.samples(data, 1)[0][0]
            file = Path(data).name if isinstance(data, str | Path) else "the data"
            source = f"first sample of {file}"
        with self.open(device) as session:
            return benchmark.bench(
                session,
                self.manifest,
                inputs,
                source=source,
                target=self.target,
                protocol=protocol or benchmark.Protocol(),
            )


def _vectors(folder: Path) -> dict[str, Array]:
    arrays = read_arrays(folder / "vectors.npz")
    return {k.removeprefix("input/"): v for k, v in arrays.items() if k.startswith("input/")}


def load(folder: Path | str) -> Artifact:
    """Open an artifact and check that its files are the ones that were exported.

    Raises:
        OutputError: no artifact, or one that was changed or damaged.
    """
    path = Path(folder)
    manifest = read_manifest(path)
    check_files(manifest, path)
    return Artifact(path, manifest)


def open_library(
    library: Library, where: Target, device: str, linked: LinkedImage | None
) -> Machine:
    """A machine that runs a library.

    Args:
        library: the generated C.
        where: what it was built for.
        device: ``local``, ``emulator`` or ``qemu``.
        linked: the image that it was built into, for the emulator and QEMU.

    Raises:
        DeviceMissingError: no such device.
        ToolchainMissingError: what the device needs is not installed.
    """
    if device == "local":
        return HostMachine(library, library.blob)
    if device not in ("emulator", "qemu"):
        raise DeviceMissingError(f"no device {device!r}; known: local, emulator, qemu")
    if linked is None:
        raise OutputError("the artifact has no image; export it for a microcontroller")
    if device == "qemu":
        return BootedMachine(library, where, linked)
    return EmulatedMachine(library, where, Elf.read(linked.path), build=linked.build)
