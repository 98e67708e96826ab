"""A session as something that can be measured.

A session on this machine is timed. An emulator counts, and its latency and energy are modelled from
that where cycles, clock, memories and power are known; its wall time is never a figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from edgekit.bench.costs import CycleModel
from edgekit.bench.energy import Energy
from edgekit.bench.protocol import Latency, Protocol
from edgekit.bench.runners.base import Cost, Inputs, Runner, windows_of
from edgekit.bench.subject import Subject
from edgekit.deploy.costs import estimated_energy
from edgekit.deploy.explain import no_cycle_model, tracing_devices
from edgekit.deploy.profile import Profile
from edgekit.deploy.session import Session
from edgekit.deploy.window import profile_windows, spread_windows
from edgekit.program.ir import Array
from edgekit.targets.qemu import qemu_target
from edgekit.targets.target import Target


class SessionRunner(Runner):
    """An opened artifact, as something that can be measured.

    Args:
        session: its generated code on a device.
        subject: what the artifact says of itself.
        target: what it was built for.
        notes: what to mind, known before anything runs.
        untimed: fields of the board that lack the wait states of memories in use.
    """

    name = "c"
    kernels = "portable C99"
    is_exact = True

    def __init__(
        self,
        session: Session,
        subject: Subject,
        target: Target,
        *,
        notes: Iterable[str] = (),
        untimed: Iterable[str] = (),
    ) -> None:
        super().__init__(subject.inputs, subject.outputs, precision=subject.identity.precision)
        self.version = subject.edgekit
        self.device = session.device
        self.is_simulated = session.is_simulated
        self.notes = tuple(notes)
        if session.build is not None:
            self.toolchain = session.build.toolchain
            self.toolchain_version = session.build.version
            self.flags = session.build.flags
        self._session = session
        self._target = target
        self._missing = tuple(untimed)
        self.on_target = session.device in target.devices
        self.steps = subject.steps
        self.carries_state = session.carries_state

    def close(self) -> None:
        """Release the device."""
        self._session.close()

    def prepare(self, inputs: Inputs) -> list[bytes]:
        """Bytes of every input, as the arena takes them."""
        return self._session.prepare(inputs)

    def invoke(self, prepared: list[bytes]) -> list[bytes]:
        """Copy the inputs in, run, copy the outputs out."""
        return self._session.execute(prepared)

    def results(self, raw: list[bytes]) -> dict[str, Array]:
        """See :meth:`edgekit.bench.runners.base.Runner.results`."""
        return self._session.results(raw)

    def reset(self) -> None:
        """See :meth:`edgekit.bench.runners.base.Runner.reset`."""
        self._session.reset()

    def advance(self, prepared: list[bytes]) -> list[bytes]:
        """See :meth:`edgekit.bench.runners.base.Runner.advance`."""
        return self._session.advance(prepared)

    def cost(self, samples: Sequence[Inputs], protocol: Protocol) -> Cost:
        """Measured where the device is real, counted where it is not."""
        session = self._session
        if session.is_simulated and self.steps is not None:
            return self._window_counted(spread_windows(windows_of(samples, self.steps)))
        if session.is_simulated:
            return self._counted(session.profile(samples[0]))
        cost = super().cost(samples, protocol)
        if self.steps is not None:
            return cost
        layers = session.profile(samples[0]).layers
        return replace(cost, layers=layers)

    def _window_counted(self, windows: Sequence[Sequence[Inputs]]) -> Cost:
        """The mean of whole windows, and what their steps take."""
        profile, step = profile_windows(self._session, windows)
        cost = self._counted(profile)
        if cost.latency_ms is not None and step.cycles is not None:
            assert step.worst_cycles is not None and self._target.clock_hz is not None
            per_cycle = 1e3 / self._target.clock_hz
            step = replace(
                step,
                latency_ms=per_cycle * step.cycles,
                worst_latency_ms=per_cycle * step.worst_cycles,
            )
        return replace(cost, samples=len(windows), step=step)

    def _counted(self, profile: Profile) -> Cost:
        model = None if profile.cycles is None else self._session.cycle_model
        reason = self._untimed(profile)
        latency = energy = None
        if reason is None and profile.cycles is not None and self._target.clock_hz is not None:
            latency = Latency.modelled(1e3 * profile.cycles / self._target.clock_hz)
            energy = self._energy(profile.cycles, model)
            if model is not None:
                reason = f"latency is modelled, not measured ({model.tag})"
        return Cost(
            latency_ms=latency,
            samples=1,
            layers=profile.layers,
            instructions=profile.instructions,
            cycles=profile.cycles,
            causes=profile.causes,
            cycle_model=model,
            energy_uj=energy,
            clock_hz=self._target.clock_hz if self.on_target else None,
            stack_bytes=profile.stack_bytes,
            warnings=(*profile.notes, *filter(None, (reason,))),
        )

    def _untimed(self, profile: Profile) -> str | None:
        """Why there is no honest latency; None where there is one."""
        if profile.instructions is None:
            return f"{self.device} counted no instructions, and its time is no figure"
        if profile.cycles is None:
            return f"{self.device} counts instructions only: {self._lacking()}"
        if self._target.clock_hz is None:
            return "a generic core has no clock: name a board for a latency"
        if self.device == "qemu" and not self._has_own_image:
            return f"qemu has other memories than {self._target.name}: no latency, no energy"
        if self._missing:
            return f"no latency, no energy: {self._target.name} lacks {', '.join(self._missing)}"
        return None

    @property
    def _has_own_image(self) -> bool:
        """Whether QEMU boots the target's image, not one that was linked for other memories."""
        return self._target.core is None or qemu_target(self._target) is self._target

    def _lacking(self) -> str:
        """What stands between counted instructions and modelled cycles."""
        if not self._target.has_cycle_model:
            return no_cycle_model(self._target)
        others = [name for name in tracing_devices(self._target) if name != self.device]
        words = "cycles and latency are modelled of a trace of every layer"
        return f"{words}, which device {others[0]} makes" if others else words

    def _energy(self, cycles: float, model: CycleModel | None) -> Energy | None:
        """Where the board's power is known."""
        board = self._target.board
        if board is None or board.power is None:
            return None
        return estimated_energy(cycles, board.power, None if model is None else model.bound)
