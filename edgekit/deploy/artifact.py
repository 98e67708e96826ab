"""An Artifact: a folder with what runs on a target, and what it says of itself."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from edgekit.bench import samples as measured
from edgekit.bench.bench import SIMULATED_SAMPLES, bench
from edgekit.bench.preprocessing import timed
from edgekit.bench.protocol import Protocol
from edgekit.bench.report import Report
from edgekit.bench.runners import backends as measured_by
from edgekit.bench.subject import Subject
from edgekit.data.preprocessing import Preprocessing
from edgekit.deploy import benchmark, verification
from edgekit.deploy.data import (
    Samples,
    cut_recording,
    is_recording,
    read_arrays,
    read_preprocessing,
    samples_for,
)
from edgekit.deploy.explain import Explanation, explain, no_cycle_model, tracing_device
from edgekit.deploy.layout import BOARD, IMAGE, PREPROCESSING, REFERENCE, SOURCES, VECTORS
from edgekit.deploy.machines import DEVICES, open_library
from edgekit.deploy.manifest import Manifest, ModelFile, check_files, read_manifest
from edgekit.deploy.runtime import RuntimeSession, open_runtime
from edgekit.deploy.session import Session
from edgekit.errors import UnsupportedError, UsageError
from edgekit.program import serialize
from edgekit.program.ir import Array, Program
from edgekit.targets.arm_cpu.shared import SharedObject
from edgekit.targets.image import LinkedImage
from edgekit.targets.library import Layer, Library
from edgekit.targets.machine import Build
from edgekit.targets.target import ARM_CPU, Target, target

STAND_INS = {"tensorrt": "onnxruntime"}
"""Runtimes that are not here, and what executes their files in their place."""

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
        """What the generated code computes, in its order; without such code the float model."""
        return serialize.read(self.folder)

    @cached_property
    def reference(self) -> Program | None:
        """The float model that it was quantised from, where there is one."""
        folder = self.folder / REFERENCE
        return serialize.read(folder) if folder.is_dir() else None

    @cached_property
    def target(self) -> Target:
        """What it was built for; a board of the user's own is described in the artifact."""
        board = self.folder / BOARD
        return target(str(board) if board.is_file() else self.manifest.configuration.target)

    @cached_property
    def library(self) -> Library:
        """The generated C.

        Raises:
            UnsupportedError: there is none for this family of targets.
        """
        interface = self.manifest.interface
        if interface is None:
            raise UnsupportedError(f"{self.folder}: {self.manifest.family} artifacts hold no C")
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
            steps=self.manifest.steps,
        )

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """What happens to raw samples before the network; nothing where none is declared.

        Raises:
            InvalidDataError: the artifact's declaration is none.
        """
        path = self.folder / PREPROCESSING
        return read_preprocessing(path) if path.is_file() else Preprocessing()

    @property
    def _built(self) -> LinkedImage | SharedObject | None:
        """What was linked, None where nothing was."""
        record = self.manifest.build
        if record is None:
            return None
        build = Build(record.toolchain, record.version, record.flags)
        if self.manifest.family == ARM_CPU:
            return SharedObject.of(self.folder / f"lib{self.manifest.configuration.name}.so", build)
        return LinkedImage(self.folder / IMAGE, build, self.manifest.configuration.stack_bytes)

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that can run it here; the first is the default."""
        own = self.target.devices
        return own if "local" in own else (*own, "local")

    @property
    def backends(self) -> tuple[str, ...]:
        """What can execute it: ``c`` and the runtimes whose files it holds; the first is default.

        For a Jetson ``onnxruntime`` stands in for TensorRT, with the very file that TensorRT gets.
        """
        own = () if self.manifest.interface is None else ("c",)
        others = map(self.runtime_of, self.manifest.models)
        return tuple(dict.fromkeys((*own, *others)))

    def open(
        self, device: str | None = None, *, backend: str | None = None
    ) -> Session | RuntimeSession:
        """Run it somewhere.

        Args:
            device: ``local`` (its C code compiled for this machine), ``emulator``, ``qemu``; None
                for the target's own.
            backend: ``c``, ``onnxruntime`` or ``litert``; None for the first of :attr:`backends`.
                Other runtimes than C run on this machine: device ``local``.

        Raises:
            UsageError: no such device or back end anywhere.
            UnsupportedError: not for this target; lists those there are.
            ToolchainMissingError: no C compiler on this machine.
            DeviceMissingError: the runtime is not installed.
        """
        for what, name, known in (
            ("device", device, DEVICES),
            ("back end", backend, measured_by()),
        ):
            if name is not None and name not in known:
                raise UsageError(f"no {what} {name!r}; there are {', '.join(known)}")
        backend = backend or self.backends[0]
        if backend not in self.backends:
            raise UnsupportedError(
                f"{self.target.name} has no back end {backend!r}; it has {', '.join(self.backends)}"
            )
        if backend != "c":
            if device not in (None, "local"):
                raise UnsupportedError(f"{backend} runs on device local, not on {device}")
            model = self._model_for(backend)
            return open_runtime(
                self.program,
                self.folder / model.file,
                backend,
                precision=model.precision,
                has_reference=self.manifest.interface is not None,
            )
        device = device or self.devices[0]
        if device not in self.devices:
            raise UnsupportedError(
                f"{self.target.name} has no device {device!r}; it has {', '.join(self.devices)}"
            )
        machine = open_library(self.library, self.target, device, self._built)
        layers, steps = self.manifest.layers, self.manifest.steps
        return Session(self.program, self.library, layers, machine, device, steps=steps)

    def _model_for(self, backend: str) -> ModelFile:
        """What a runtime executes: the first file for it, the others are baselines."""
        return next(model for model in self.manifest.models if self.runtime_of(model) == backend)

    def samples(self, data: Data | None, limit: int | None = None) -> tuple[Samples, int]:
        """Samples for its inputs, at most `limit` evenly spread, and how many there were.

        None takes the artifact's own test vectors. A network that decides over windows takes
        windows, or a raw recording with the times of its samples: ``seconds`` beside the values
        [time, channels]; see :func:`edgekit.deploy.data.cut_recording`.

        Raises:
            InvalidDataError: the data does not fit the inputs.
        """
        if limit is not None and limit < 1:
            raise UsageError(f"limit is {limit}, must be positive")
        steps = self.manifest.steps
        if data is None:
            samples = samples_for(self.program, _vectors(self.folder), raw=True, window=steps)
        else:
            arrays = read_arrays(data)
            if steps is not None and is_recording(arrays):
                arrays = cut_recording(arrays, self.preprocessing, _name_of(data))
            samples = samples_for(self.program, arrays, window=steps)
        return (samples if limit is None else samples.spread(limit)), len(samples)

    def verify(
        self,
        data: Data | None = None,
        *,
        device: str | None = None,
        backend: str | None = None,
        limit: int | None = None,
    ) -> verification.VerifyReport:
        """Compare what was deployed with its exact reference and any float model.

        Args:
            data: samples, or sequences for a Program with state, labels optional; see
                :mod:`edgekit.deploy.data`. None takes the artifact's test vectors.
            device: see :meth:`open`.
            backend: see :meth:`open`; only C is held to the bit.
            limit: samples to run, evenly spread over all; None for all on the host and, in an
                emulator, for a hundred or those with a hundred steps.

        Raises:
            InvalidDataError: the data does not fit the inputs.
            UnsupportedError: sequences, and a device or a runtime that carries no state.
        """
        with self.open(device, backend=backend) as session:
            samples, available = self.samples(data, limit)
            if limit is None and session.device != "local":
                steps = 1 if self.manifest.steps is not None else samples.steps or 1
                samples = samples.spread(max(1, SIMULATED_SAMPLES // steps))
            # Where no Program says what is computed, the root one is the float model itself.
            reference = self.reference if session.has_reference else self.program
            return verification.verify(session, samples, reference=reference, available=available)

    def runtime_of(self, model: ModelFile) -> str:
        """What executes a model file here."""
        return STAND_INS.get(model.runtime, model.runtime)

    def bench(
        self,
        data: Data | None = None,
        *,
        device: str | Sequence[str] | None = None,
        backend: str | Sequence[str] | None = None,
        baseline: str | Sequence[str] | None = None,
        protocol: Protocol | None = None,
        limit: int | None = None,
        seed: int | None = None,
        command: str | None = None,
        opponent: Artifact | Path | str | None = None,
    ) -> Report:
        """Cost of one inference, in every way that is asked for.

        Args:
            data: samples, labels optional; all are cycled where time is measured, the first is
                counted in an emulator. None for a seeded random input. Of sequences every step is
                an input, run from reset; they are stepped through where accuracy is counted.
            device: of generated C, one or several; see :meth:`open`.
            backend: one or several of :attr:`backends`; None for the first.
            baseline: precisions to hold it against: ``fp32``, ``int8``.
            protocol: how real execution is measured.
            limit: samples that accuracy is counted over, where there are labels, evenly spread;
                None for all where time is measured and some in an emulator, as for :meth:`verify`.
            seed: of the random input; None for the artifact's own.
            command: for the report; None for this process's.
            opponent: artifact of a network that does not spike, to hold a spiking one against.

        Raises:
            InvalidDataError: the data does not fit the inputs, or the opponent's.
            UsageError: an opponent of a network that does not spike, or that is none.
            UnsupportedError: no such device, back end or baseline.
            DeviceMissingError: a runtime is not installed.
            VerificationError: generated C is not exact on the test vectors.
        """
        protocol = protocol or Protocol()
        other = load(opponent) if isinstance(opponent, str | Path) else opponent
        if other is not None:
            from edgekit.deploy.opponent import check_opponent

            check_opponent(self, other)
        with benchmark.typed_errors(self.folder):
            subject = benchmark.subject_for(self)
            ways = benchmark.ways_of(
                self,
                subject,
                devices=benchmark.names_of(device),
                backends=benchmark.names_of(backend),
                baselines=benchmark.names_of(baseline),
                threads=protocol.threads,
            )
            samples = self._bench_samples(subject, data, seed)
            here = protocol if "local" in self.target.devices else None
            report = bench(
                subject,
                ways,
                samples,
                protocol,
                command=command if command is not None else shlex.join(sys.argv),
                vectors=read_arrays(self.folder / VECTORS),
                limit=limit,
                preprocessing=timed(self.folder, subject, samples, here),
            )
            if self.manifest.spiking is None:
                return report
            from edgekit.deploy.spiking_bench import Asked, with_spikes

            first = next(iter(benchmark.names_of(device)), self.devices[0])
            windows, asked = self.samples(data)[0], Asked(first, protocol, limit, other)
            return with_spikes(self, report, windows, samples.source, asked)

    def explain(
        self,
        layer: str | int,
        data: Data | None = None,
        *,
        device: str | None = None,
        seed: int | None = None,
    ) -> Explanation:
        """Where the cycles of one layer go, instruction by instruction.

        Args:
            layer: name of its operation, a part of one that no other has, or its index.
            data: samples, of which the first is run; None for a seeded random input.
            device: one that sees every instruction; None for the best.
            seed: of the random input; None for the artifact's own.

        Raises:
            UsageError: no such layer; lists those there are.
            InvalidDataError: the data does not fit the inputs.
            UnsupportedError: the device sees no single instructions; says which do.
        """
        name = tracing_device(self.target, device)
        with benchmark.typed_errors(self.folder):
            samples = self._bench_samples(benchmark.subject_for(self), data, seed)
        with self.open(name, backend="c") as session:
            assert isinstance(session, Session)
            notes = () if self.target.has_cycle_model else (no_cycle_model(self.target),)
            return explain(session, samples.inputs[0], layer, notes=notes)

    def _bench_samples(
        self, subject: Subject, data: Data | None, seed: int | None
    ) -> measured.Samples:
        if data is None and self.manifest.steps is not None:
            # What a step costs depends on what fires: nothing that is drawn stands for it.
            return measured.Samples.of(self.samples(None)[0], "the artifact's test vectors")
        if data is None:
            own = self.manifest.configuration.seed
            return measured.seeded(subject.inputs, own if seed is None else seed)
        return measured.Samples.of(self.samples(data)[0], _name_of(data))


def _name_of(data: Data) -> str:
    """Where samples come from, for people."""
    return Path(data).name if isinstance(data, str | Path) else "the data"


def _vectors(folder: Path) -> dict[str, Array]:
    arrays = read_arrays(folder / VECTORS)
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
