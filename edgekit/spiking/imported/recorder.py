"""Runs ``forward`` and takes down what every tensor is made of.

torch tells a ``TorchFunctionMode`` about every function that is called, so that networks may be
written in any way: modules or functions, loops, lists, states in arguments or in attributes. What a
call means is looked up in the table of :mod:`edgekit.spiking.imported.functions`. Neurons are
leaves: while one runs nothing is taken down but its input, its states and its results, step by
step.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from edgekit.errors import UnsupportedError
from edgekit.spiking.arrays import Array, Shape
from edgekit.spiking.graph import identifier
from edgekit.spiking.imported import (  # noqa: F401  modules with calls fill the table
    arithmetic_calls,
    calls,
    functions,
    layers,
    time_calls,
)
from edgekit.spiking.imported.expressions import (
    INPUT,
    Expression,
    Kind,
    Label,
    Signal,
    Window,
    Zero,
    add,
)
from edgekit.spiking.imported.neurons import STATES, Cell, check_kind, own_kind, read_cell

KINDS: Mapping[str, Kind] = {"spk": "spikes", "syn": "synaptic", "mem": "membrane"}
"""What snnTorch's states are called here."""

MAX_STEPS = 100_000
"""Most calls of one population: nothing that is run step by step on purpose has more."""


@dataclass
class Population:
    """One state of one neuron module, step by step.

    Attributes:
        name: an identifier.
        path: of the module, for messages.
        cell: what it computes.
        shape: without batch.
        currents: what it reads in every step, its recurrence included.
        spikes: bool[N,*shape] of every step.
        membranes: float32[N,*shape] of every step, as the module returns them.
    """

    name: str
    path: str
    cell: Cell
    shape: Shape
    currents: list[Expression] = field(default_factory=list)
    spikes: list[Array] = field(default_factory=list)
    membranes: list[Array] = field(default_factory=list)


class Recorder(TorchFunctionMode):
    """Labels tensors while a module runs.

    Args:
        module: whose neurons are leaves; :meth:`recording` makes them so.
        clamp: as :func:`~edgekit.spiking.imported.neurons.read_cell`.
    """

    def __init__(self, module: nn.Module, *, clamp: bool) -> None:
        super().__init__()
        self.module = module
        self.populations: dict[str, Population] = {}
        self.taken: dict[int, tuple[str, str]] = {}
        """Population and state that tensors were given to as state, by ``id``."""
        self.time_axis: int | None = None
        self.sample_shape: Shape = ()
        named = [*module.named_parameters(), *module.named_buffers()]
        self.layers = layers.Layers({id(t): path.rpartition(".")[0] for path, t in named})
        self._paths = {m: path for path, m in module.named_modules() if own_kind(m) is not None}
        self._clamp = clamp
        self._labels: MutableMapping[Tensor, Label] = WeakTensorKeyDictionary()
        self._in_leaf = False

    @contextlib.contextmanager
    def recording(self) -> Iterator[Recorder]:
        """Neurons as leaves in their initial state, the module in evaluation, and all that back."""
        modes = [(m, m.training) for m in self.module.modules()]
        states = [(m, name, getattr(m, name)) for m in self._paths for name in _states(m)]
        own = [(m, vars(m)["forward"]) for m in self._paths if "forward" in vars(m)]
        try:
            self.module.eval()
            for neuron, name, value in states:
                setattr(neuron, name, value.new_zeros(0))
            for neuron in self._paths:
                vars(neuron)["forward"] = functools.partial(self._run_neuron, neuron)
            with torch.no_grad(), self:
                yield self
        finally:
            for neuron in self._paths:
                vars(neuron).pop("forward", None)
            for neuron, forward in own:
                vars(neuron)["forward"] = forward
            for neuron, name, value in states:
                setattr(neuron, name, value)
            for part, training in modes:
                part.training = training

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function and label what it returns."""
        kwargs = kwargs or {}
        if self._in_leaf:
            return func(*args, **kwargs)
        functions.before(self, func, args, kwargs)
        result = func(*args, **kwargs)
        functions.after(self, func, args, kwargs, result)
        return result

    def label(self, value: object) -> Label | None:
        """What a tensor is; None of what neither inputs nor neurons reach."""
        return self._labels.get(value) if isinstance(value, Tensor) else None

    def set_label(self, tensor: Tensor, label: Label) -> None:
        """Say what a tensor is, for as long as it lives."""
        self._labels[tensor] = label

    def feed(self, sample: Tensor, *, step: int | None) -> None:
        """Label the input: one step of it, or (None) all that one call of forward gets."""
        self.sample_shape = tuple(sample.shape)
        if step is None:
            self.set_label(sample, Window(tuple(range(sample.ndim)), self.sample_shape))
        else:
            self.set_label(sample, Signal(INPUT, "input", step))

    def value(self, tensor: Tensor, what: str) -> Expression:
        """One step's value.

        Raises:
            UnsupportedError: it is none; says what was done to it.
        """
        label = self.label(tensor)
        if label is None and not tensor.any():
            return Zero()
        if isinstance(label, Window):
            try:
                return functions.constant_input(self, label)
            except layers.UnknownError as error:
                raise UnsupportedError(
                    f"{what} reads the sample, {list(self.sample_shape)}, through {error}; where "
                    "it has a time axis that forward does not step along, name it with time_axis"
                ) from error
        if label is None or not isinstance(label, Expression):
            done = "a constant" if label is None else functions.describe(label)
            raise UnsupportedError(f"{what} reads {done}; {functions.SUPPORTED}")
        return label

    def _run_neuron(self, neuron: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """One call of a neuron: nothing in it is for the table."""
        self._in_leaf = True
        try:
            return self._step(neuron, args, kwargs)
        finally:
            self._in_leaf = False

    def _step(self, neuron: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One step of a population."""
        path = f"module {self._paths[neuron]!r}" if self._paths[neuron] else "the module"
        states = STATES[check_kind(neuron, path)]
        forward = functools.partial(type(neuron).forward, neuron)
        given = inspect.signature(forward).bind(*args, **kwargs).arguments
        x = given["input_"]
        if x.ndim < 2:
            raise functions.batch_error(path, x)
        layers.check_float32(x, f"the input of {path}")
        held = {n: getattr(neuron, n) if given.get(n) is None else given[n] for n in states}
        # snnTorch replaces states of any other shape, empty ones above all, by zeros.
        held = {n: t for n, t in held.items() if t.shape == x.shape}
        current = self.value(x, path)
        population = self._population(neuron, path, x, held)
        self.taken |= {
            id(t): (population.name, n) for n in states if (t := given.get(n)) is not None
        }
        recurrent = population.cell.recurrent
        if recurrent is not None:
            current = add((current, self._recurrence(recurrent, path, x, held.get("spk"))))
        population.currents.append(current)
        step = len(population.currents) - 1
        if step >= MAX_STEPS:
            raise UnsupportedError(f"{path} runs more than {MAX_STEPS} steps")
        result = forward(*args, **kwargs)
        # snnTorch returns (spikes, ..., membrane), or with init_hidden the spikes alone.
        spikes, *_ = result if isinstance(result, tuple) else (result,)
        # What a caller does in place to a membrane it was given must not reach the record.
        population.spikes.append(layers.numpy(spikes != 0).copy())
        population.membranes.append(layers.numpy(neuron.mem).copy())
        for name in states:
            if name != "spk":
                self.set_label(getattr(neuron, name), Signal(population.name, KINDS[name], step))
        fired: Expression = Signal(population.name, "spikes", step)
        if population.cell.graded is not None:
            factor = population.cell.graded.factor
            what = f"{population.name}_grade"
            fired = layers.affine(self.layers, fired, population.shape, factor=factor, what=what)
        self.set_label(spikes, fired)
        return result

    def _population(
        self, neuron: nn.Module, path: str, x: Tensor, held: Mapping[str, Tensor]
    ) -> Population:
        """The population that these states belong to; a new one where they are zero.

        Raises:
            UnsupportedError: states that are neither zero nor what a population returned last.
        """
        states = {name: tensor for name, tensor in held.items() if name != "spk"}
        owners = {n: label for n, t in states.items() if (label := self.label(t)) is not None}
        label = owners.get("mem")
        found = self.populations.get(label.source) if isinstance(label, Signal) else None
        if found is not None and found.path == path:
            last = len(found.currents) - 1
            if all(owners.get(n) == Signal(found.name, KINDS[n], last) for n in states):
                return found
        for name, tensor in states.items():
            if name in owners or tensor.any():
                raise UnsupportedError(
                    f"{path}: its {name} in this step is neither zero nor what it returned in the "
                    f"step before{functions.whence(owners.get(name))}"
                )
        shape = tuple(x.shape[1:])
        cell = read_cell(neuron, path, shape, clamp=self._clamp)
        kind = own_kind(neuron)
        assert kind is not None
        name = layers.named(self._paths[neuron], kind.__name__.lower())
        made = Population(identifier(name, {INPUT, *self.populations}), path, cell, shape)
        self.populations[made.name] = made
        return made

    def _recurrence(
        self, recurrent: Any, path: str, x: Tensor, spikes: Tensor | None
    ) -> Expression:
        """What a recurrent neuron adds to its input.

        Raises:
            UnsupportedError: another module than snnTorch makes.
        """
        before = Zero() if spikes is None else self.value(spikes, f"the recurrence of {path}")
        if isinstance(recurrent, nn.Linear):
            if x.ndim != 2:
                raise UnsupportedError(
                    f"{path}: linear_features on a population of the shape {list(x.shape[1:])}; "
                    "supported: flat populations"
                )
            return layers.linear(self.layers, before, x, x, recurrent.weight, recurrent.bias)
        if isinstance(recurrent, nn.Conv2d) and recurrent.padding_mode == "zeros":
            return layers.convolution(
                *(self.layers, before, x, x, recurrent.weight, recurrent.bias),
                stride=recurrent.stride,
                padding=recurrent.padding,
                dilation=recurrent.dilation,
                groups=recurrent.groups,
            )
        if type(recurrent).__name__ == "RecurrentOneToOne":
            factor = layers.numpy(recurrent.V)
            return layers.affine(
                *(self.layers, before, tuple(x.shape[1:])),
                factor=factor,
                what="recurrent",
            )
        raise UnsupportedError(
            f"{path}: recurrence through {type(recurrent).__name__}; supported: Linear, Conv2d "
            "with zero padding, one to one"
        )


def _states(neuron: nn.Module) -> tuple[str, ...]:
    """States that a neuron holds between calls."""
    kind = own_kind(neuron)
    names = STATES.get(kind.__name__, ()) if kind is not None else ()
    return tuple(name for name in names if isinstance(getattr(neuron, name, None), Tensor))


def observed(population: Population) -> tuple[Array, Array]:
    """Spikes bool and membranes float32, both [N,T,*shape]; NaN where a membrane is not the node's.

    With ``reset_delay=False`` the module returns the membrane after the reset of this very step.
    """
    spikes = np.stack(population.spikes, axis=1)
    membranes = np.stack(population.membranes, axis=1)
    if population.cell.immediate:
        membranes = np.where(spikes, np.float32(np.nan), membranes)
    return spikes, membranes
