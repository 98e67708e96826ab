"""From graphs within graphs to one flat graph, and which of its edges are delayed.

NIR's time is continuous: a cycle needs no delay there. In steps, something has to be read from the
step before, and NIR does not say what. The rule here:

1. Only the output of a neuron goes round: a cycle without neuron or Delay is refused.
2. Within each set of nodes that reach one another, neurons are put in order: fewest neurons
   between an Input and it first, then by name.
3. What a neuron sends back, to itself or to an earlier one, is read one step later. Layers on the
   way (a recurrent matrix) compute with the late value, so a bias there acts in the first step, as
   in snnTorch's RLeaky.

A Delay node of one step is a delay where it stands, and the rule settles what is then left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.spiking.nir.container import MAX_NODES
from edgekit.spiking.nir.neurons import STATEFUL
from edgekit.spiking.nir.tree import NirNode, NirTree, Path

Connection = tuple[Path, Path, int]
"""Source, target, and how many steps late the source is read."""


@dataclass(frozen=True)
class Wiring:
    """A flat graph.

    Attributes:
        nodes: by path, in the file's order: without Delays and without the Inputs and Outputs of
            graphs within.
        edges: between them; the same two may be connected twice, where a graph within hands on.
        chosen: edges whose delay the rule of this module put there; the file states the others.
    """

    nodes: Mapping[Path, NirNode]
    edges: tuple[Connection, ...]
    chosen: tuple[Connection, ...]


def wire(tree: NirTree, dt: float) -> Wiring:
    """The flat graph of a file.

    Args:
        tree: the outermost graph.
        dt: seconds of a step, which Delays are measured in.

    Raises:
        InvalidModelError: a cycle in which nothing keeps a state.
        UnsupportedError: a graph within without one Input and one Output, a Delay of other than 0
            or 1 step.
    """
    nodes = dict(tree.walk())
    edges = _connections(tree)
    for path, node in nodes.items():
        inner_port = len(path) > 1 and node.type in ("Input", "Output")
        if inner_port or node.type == "Delay":
            edges = _without(path, edges, _steps(node, path, dt))
    kept = {
        path: node
        for path, node in nodes.items()
        if node.type != "Delay" and not (len(path) > 1 and node.type in ("Input", "Output"))
    }
    neurons = {path for path, node in kept.items() if node.type in STATEFUL}
    inputs = [path for path, node in kept.items() if node.type == "Input"]
    late = delayed_edges(tuple(kept), edges, neurons, inputs)
    wired = tuple((s, t, 1 if i in late else delay) for i, (s, t, delay) in enumerate(edges))
    return Wiring(kept, wired, tuple(wired[index] for index in sorted(late)))


def delayed_edges(
    nodes: Collection[Path],
    edges: Sequence[Connection],
    neurons: Collection[Path],
    inputs: Sequence[Path],
) -> set[int]:
    """Which edges without delay are to be read one step late.

    Args:
        nodes: all of them.
        edges: between them.
        neurons: the nodes whose output may be late.
        inputs: where the order begins.

    Returns:
        Places in `edges`.

    Raises:
        InvalidModelError: a cycle of nodes that keep no state; it names them.
    """
    following: dict[Path, list[Path]] = {path: [] for path in nodes}
    for source, target, delay in edges:
        if delay == 0:
            following[source].append(target)
    group = _components(following)
    rank = _ranks(nodes, edges, neurons, inputs)
    earliest = _earliest(following, group, rank)
    return {
        index
        for index, (source, target, delay) in enumerate(edges)
        if delay == 0
        and source in rank
        and group[source] == group[target]
        and earliest[target] <= rank[source]
    }


def _connections(tree: NirTree, path: Path = ()) -> list[Connection]:
    """All edges of all graphs; one that ends at a graph within ends at its port."""
    found: list[Connection] = []
    ends: dict[tuple[str, str], Path] = {}
    for name, node in tree.nodes.items():
        for kind in ("Input", "Output"):
            ends[name, kind] = (*path, name)
            if isinstance(node, NirTree):
                ends[name, kind] = (*path, name, _port(node, kind, (*path, name)))
        if isinstance(node, NirTree):
            found += _connections(node, (*path, name))
    return found + [(ends[a, "Output"], ends[b, "Input"], 0) for a, b in tree.edges]


def _port(tree: NirTree, kind: str, path: Path) -> str:
    """The one Input or Output of a graph within.

    Raises:
        UnsupportedError: none, or several, which an edge to the graph could mean.
    """
    names = [
        name for name, node in tree.nodes.items() if isinstance(node, NirNode) and node.type == kind
    ]
    if len(names) != 1:
        raise UnsupportedError(
            f"the graph {'.'.join(path)!r} has {len(names)} nodes {kind}; supported: graphs within "
            "with one Input and one Output"
        )
    return names[0]


def _steps(node: NirNode, path: Path, dt: float) -> int:
    """How many steps late a Delay hands on; 0 of a port.

    Raises:
        UnsupportedError: neither 0 nor 1, or different ones.
    """
    if node.type != "Delay":
        return 0
    delay = node.fields["delay"]
    assert isinstance(delay, np.ndarray)
    steps = np.unique(np.round(delay.astype(np.float64) / dt, 6))
    if steps.size != 1 or steps[0] not in (0, 1):
        raise UnsupportedError(
            f"the Delay {'.'.join(path)!r} of {steps[:3].tolist()} steps of {dt:g} s; supported: "
            "0 or 1 step, the same for all"
        )
    return int(steps[0])


def _without(path: Path, edges: list[Connection], steps: int) -> list[Connection]:
    """The edges when a node that only hands on is taken out.

    Raises:
        InvalidModelError: it hands on to itself, or so many edges result that the file is a bomb.
        UnsupportedError: two Delays in a row.
    """
    name = ".".join(path)
    before = [edge for edge in edges if edge[1] == path]
    behind = [edge for edge in edges if edge[0] == path]
    if any(edge[1] == path for edge in behind):
        raise InvalidModelError(f"{name!r} reads itself and nothing between keeps a state")
    if len(edges) + len(before) * len(behind) > 4 * MAX_NODES:
        raise InvalidModelError(f"more than {4 * MAX_NODES} edges once {name!r} is replaced")
    result = [edge for edge in edges if path not in edge[:2]]
    for source, _, early in before:
        for _, target, late in behind:
            delay = early + steps + late
            if delay > 1:
                raise UnsupportedError(
                    f"{'.'.join(source)!r} reaches {'.'.join(target)!r} {delay} steps late by "
                    f"{name!r}; supported: 1 step"
                )
            result.append((source, target, delay))
    return result


def _ranks(
    nodes: Collection[Path],
    edges: Sequence[Connection],
    neurons: Collection[Path],
    inputs: Sequence[Path],
) -> dict[Path, int]:
    """Place of every neuron: fewest neurons on a way from an Input first, then by name."""
    following: dict[Path, list[Path]] = {path: [] for path in nodes}
    for source, target, _ in edges:
        following[source].append(target)
    distance = dict.fromkeys(inputs, 0)
    waiting = deque(inputs)
    while waiting:
        here = waiting.popleft()
        for target in following[here]:
            far = distance[here] + (target in neurons)
            if far < distance.get(target, len(nodes) + 1):
                distance[target] = far
                # Layers add nothing to a distance and come first: a breadth-first walk.
                (waiting.append if target in neurons else waiting.appendleft)(target)
    ordered = sorted(neurons, key=lambda path: (distance.get(path, len(nodes) + 1), path))
    return {path: place for place, path in enumerate(ordered)}


def _earliest(
    following: Mapping[Path, list[Path]], group: Mapping[Path, int], rank: Mapping[Path, int]
) -> dict[Path, int]:
    """The first neuron of its own group that each node reaches by layers alone, itself included.

    Raises:
        InvalidModelError: layers that reach themselves by layers alone.
    """
    layers = [path for path in following if path not in rank]
    before: dict[Path, list[Path]] = {path: [] for path in following}
    waiting = dict.fromkeys(layers, 0)
    for source in layers:
        for target in following[source]:
            before[target].append(source)
            waiting[source] += target not in rank
    earliest = {path: rank.get(path, len(following)) for path in following}
    done = [path for path in layers if waiting[path] == 0]
    for path in done:
        within = [earliest[t] for t in following[path] if group[t] == group[path]]
        earliest[path] = min(within, default=len(following))
        for source in before[path]:
            waiting[source] -= 1
            if waiting[source] == 0:
                done.append(source)
    if len(done) < len(layers):
        stuck = {path for path in layers if waiting[path]}
        raise InvalidModelError(
            f"a cycle in which nothing keeps a state: {_cycle(following, stuck)}; a cycle must go "
            f"through a neuron ({', '.join(STATEFUL)}) or a Delay of one step"
        )
    return earliest


def _cycle(following: Mapping[Path, list[Path]], stuck: set[Path]) -> str:
    """One cycle among nodes each of which reaches another of them, as text."""
    here, seen = min(stuck), list[Path]()
    while here not in seen:
        seen.append(here)
        here = next(target for target in following[here] if target in stuck)
    names = [".".join(path) for path in (*seen[seen.index(here) :], here)]
    return " -> ".join(names[:12]) + (" -> ..." if len(names) > 12 else "")


def _components(following: Mapping[Path, list[Path]]) -> dict[Path, int]:
    """Number of the set of nodes that reach one another, for every node (Tarjan 1972)."""
    number: dict[Path, int] = {}
    low: dict[Path, int] = {}
    group: dict[Path, int] = {}
    stack: list[Path] = []
    for root in following:
        if root in number:
            continue
        number[root] = low[root] = len(number)
        stack.append(root)
        walk = [(root, iter(following[root]))]
        while walk:
            here, rest = walk[-1]
            for target in rest:
                if target not in number:
                    number[target] = low[target] = len(number)
                    stack.append(target)
                    walk.append((target, iter(following[target])))
                    break
                if target not in group:
                    low[here] = min(low[here], number[target])
            else:
                walk.pop()
                if walk:
                    low[walk[-1][0]] = min(low[walk[-1][0]], low[here])
                if low[here] == number[here]:
                    members = stack[stack.index(here) :]
                    del stack[len(stack) - len(members) :]
                    group.update(dict.fromkeys(members, number[here]))
    return group
