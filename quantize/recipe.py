"""Recipes: which layer gets which weights and activations, as a checked value.

A text names the weights, then the activations; modifiers follow the weights, each behind ``-``::

    w4a8-g32    fp4-e2m1-g128a8    w158-mean-a8    shift3a8    w1a1-reste    w8a8-token    fp32

========================  ======================================================================
weights                   :data:`WEIGHTS`: ``w2`` … ``w8`` integers, ``w158`` ternary, ``w1``
                          binary, ``shift2`` … ``shift4``, minifloats, ``mxfp4``, ``nvfp4``
activations               ``a8`` int8, ``a1`` binary (with ``w1``)
``g32``, ``g128``, …      weights share a scale in groups of so many along a row
``t``, ``c``              one scale per tensor, one per output channel
``median``, ``mean``      what a ternary scale is of the magnitudes
``absmax``, ``mse``       the largest magnitude fits; the squared error is the least
``p5``                    ternary: five weights a byte instead of four
``lsq``                   training learns the step sizes (Esser et al. 2019, arXiv 1902.08153)
``points``                training learns the quantisation points (Polino, Pascanu, Alistarh
                          2018, arXiv 1802.05668)
``reste``                 binary: the rectified straight-through estimator (arXiv 2308.06689)
``token``                 activations are scaled anew for every token when the network runs
========================  ======================================================================

A mapping gives layers their own; the first rule that matches decides, and ``*`` is the rest::

    {"conv1": "w8a8", "blocks.*.ffn": "w4a8-g32", "LSTM": "w8a8", "*": "w158a8"}
"""

from __future__ import annotations

import difflib
import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from edgekit.errors import UsageError
from edgekit.formats import Format

Position: TypeAlias = Literal["first", "inner", "last"]
"""Where a layer is among the layers with weights; the only one of a network is ``first``."""

ModuleType: TypeAlias = type[Any] | str
"""The class of a module, or the name of an operator where there are no modules."""

Selector: TypeAlias = str | type[Any] | Callable[[str, ModuleType], bool]
"""A pattern of names (as :mod:`fnmatch`) or the name of a class; a class, with what is derived
from it; or a question about a layer's name and type."""

Method: TypeAlias = Literal["ste", "lsq", "points", "reste"]
"""How the weights of a layer are trained; ``ste`` is the straight-through estimator."""

WEIGHTS: dict[str, str] = {
    **{f"w{bits}": f"int{bits}" for bits in range(2, 9)},
    "w158": "ternary",
    "w1": "binary",
    **{
        name: name
        for name in (
            *("shift2", "shift3", "shift4"),
            *("fp4-e2m1", "fp4-e1m2", "fp4-e3m0"),
            *("fp6-e2m3", "fp8-e3m4", "fp8-e4m3", "fp8-e5m2"),
            *("mxfp4", "nvfp4"),
        )
    },
}
"""What a recipe calls weights, and the format that is meant."""

LAYOUT_MODIFIERS = ("t", "c", "p5", "absmax", "mean", "median", "mse")
"""Modifiers that belong to the format, as does ``g`` with a number."""

METHODS: tuple[Method, ...] = ("lsq", "points", "reste")

FLOAT = "fp32"
"""The recipe of a layer that stays in float."""

REST = "*"

KEEP_ENDS = "keep_ends"
"""The one key of a mapping that is no layer: true or false, see :class:`Recipe`."""

_WEIGHTS = re.compile("|".join(sorted(map(re.escape, WEIGHTS), key=len, reverse=True)))
_PART = re.compile(r"-?(?P<activations>a\d+)|-(?P<modifier>[^-]*?)(?=-|a\d|$)")


@dataclass(frozen=True)
class ActivationFormat:
    """How what a layer reads is quantised.

    Attributes:
        bits: 8 for int8, 1 for ±1.
        scaling: ``static``: one scale that calibration or training fixes; ``token``: absmax of
            every vector along the last axis, while the network runs.
        learned: whether training learns the static scale (LSQ) instead of averaging extremes.
    """

    bits: Literal[1, 8] = 8
    scaling: Literal["static", "token"] = "static"
    learned: bool = False


@dataclass(frozen=True)
class LayerRecipe:
    """What one layer gets; both formats are None for a layer that stays in float.

    Attributes:
        weights: format of the weights.
        activations: format of what the layer reads.
        method: how the weights are trained.
        text: canonical, :meth:`parse` reads it.
    """

    weights: Format | None = None
    activations: ActivationFormat | None = None
    method: Method = "ste"
    text: str = FLOAT

    @property
    def is_float(self) -> bool:
        """Whether nothing of the layer is quantised."""
        return self.weights is None

    @classmethod
    def parse(cls, text: str) -> LayerRecipe:
        """Read ``w4a8-g32`` and the like.

        Raises:
            UsageError: nothing that is known, or parts that exclude each other.

        >>> str(LayerRecipe.parse("w4-g32-a8"))
        'w4a8-g32'
        >>> LayerRecipe.parse("w1a1-reste").method
        'reste'
        """
        if text == FLOAT:
            return cls()
        base, activations, modifiers = _parts(text)
        methods = [m for m in METHODS if m in modifiers]
        if len(methods) > 1:
            raise _refusal(text, f"{' and '.join(methods)} exclude each other")
        method: Method = methods[0] if methods else "ste"
        layout = [m for m in modifiers if m in LAYOUT_MODIFIERS or _is_group(m)]
        bits = {"a8": 8, "a1": 1}.get(activations)
        if method == "reste" and base != "w1":
            raise _refusal(text, "reste is a method for w1")
        if method == "lsq" and (base == "w1" or not base.startswith("w")):
            raise _refusal(text, "lsq is a method for w2 to w8 and w158; points is for every one")
        if bits is None or (bits == 1 and base != "w1"):
            known = "a8 or a1" if base == "w1" else "a8"
            raise _refusal(text, f"{activations} is no activation format for {base}: {known}")
        if bits == 1 and "token" in modifiers:
            raise _refusal(text, "a1 has no scale that a token could have")
        try:
            # The packing is part of the element's name, which comes first.
            weights = Format.parse(
                "-".join([WEIGHTS[base], *sorted(layout, key=lambda modifier: modifier != "p5")])
            )
        except UsageError as error:
            raise _refusal(text, str(error)) from error
        if method in ("lsq", "points") and weights.granularity == "group":
            raise _refusal(text, f"{method} learns scales of tensors and channels, not of groups")
        token = "token" in modifiers
        reading = ActivationFormat(
            bits=8 if bits == 8 else 1,
            scaling="token" if token else "static",
            learned=method == "lsq" and bits == 8 and not token,
        )
        return cls(weights, reading, method, _canonical(base, weights, activations, modifiers))

    def __str__(self) -> str:
        return self.text


ENDS = "w8a8"
"""What the first and the last layer get where a recipe keeps them wider."""


@dataclass(frozen=True)
class Choice:
    """What a layer gets, and why.

    Attributes:
        recipe: of the layer.
        reason: which rule decided, in words.
        kept_wider: whether it is an end of the network that got :data:`ENDS` instead of the rest.
    """

    recipe: LayerRecipe
    reason: str
    kept_wider: bool = False


@dataclass(frozen=True)
class Recipe:
    """What every layer of a network gets.

    Attributes:
        rules: selectors and what their layers get, in the order of precedence; :data:`REST`
            stands last.
        keep_ends: the first and the last layer with weights get :data:`ENDS` where only
            :data:`REST` would match and gives them less: there a narrow format costs the most
            and saves the least.
    """

    rules: tuple[tuple[Selector, LayerRecipe], ...]
    keep_ends: bool = True

    @classmethod
    def parse(
        cls, source: str | Mapping[Any, Any] | Recipe, *, keep_ends: bool | None = None
    ) -> Recipe:
        """A recipe from its text or from a mapping of selectors to texts.

        Args:
            source: a text for all layers, a mapping, a mapping as a JSON object, or a recipe.
            keep_ends: replaces what the source says.

        Raises:
            UsageError: see :meth:`LayerRecipe.parse`; every wrong rule has a line.

        >>> recipe = Recipe.parse({"conv1": "w8a8", "*": "w158a8"})
        >>> str(recipe.for_layer("blocks.0.conv", "Conv2d"))
        'w158a8'
        >>> str(Recipe.parse("shift3a8").for_layer("stem", "Conv2d", "first"))
        'w8a8'
        """
        if isinstance(source, Recipe):
            return source if keep_ends is None else cls(source.rules, keep_ends)
        if isinstance(source, str) and source.lstrip().startswith("{"):
            source = _from_json(source)
        if isinstance(source, str):
            rules: tuple[tuple[Selector, LayerRecipe], ...] = (
                (REST, LayerRecipe.parse(source.strip())),
            )
            stated = True
        elif isinstance(source, Mapping):
            rules, stated = _rules(source)
        else:
            raise UsageError(
                f"recipe: must be a text or a mapping of layers to texts, not {source!r}"
            )
        return cls(rules, stated if keep_ends is None else keep_ends)

    def for_layer(
        self, name: str, module_type: ModuleType, position: Position = "inner"
    ) -> LayerRecipe:
        """What a layer gets; see :meth:`choose`."""
        return self.choose(name, module_type, position=position).recipe

    def choose(self, name: str, module_type: ModuleType, *, position: Position = "inner") -> Choice:
        """What a layer gets and why.

        Args:
            name: dotted path of the module, or name of the node.
            module_type: its class, or its operator.
            position: among the layers with weights.

        Raises:
            UsageError: no rule matches, and there is no :data:`REST`.
        """
        for selector, recipe in self.rules:
            if not _matches(selector, name, module_type):
                continue
            if selector != REST:
                return Choice(recipe, f"rule {_spelled(selector)}")
            if self.keep_ends and position != "inner" and _narrow(recipe):
                return Choice(LayerRecipe.parse(ENDS), f"the {position} layer is kept wider", True)
            return Choice(recipe, "every layer" if len(self.rules) == 1 else "the rest")
        raise UsageError(
            f"recipe: no rule for layer {name} ({_type_name(module_type)}); "
            f'add "{REST}" for the rest, {FLOAT} leaves a layer in float'
        )

    def check_layers(self, layers: Iterable[tuple[str, ModuleType]]) -> None:
        """Refuse rules that no layer matches: a typing mistake would otherwise go unseen.

        Args:
            layers: name and type of every layer with weights.

        Raises:
            UsageError: a rule without a layer; says which names are near.
        """
        layers = list(layers)
        names = [name for name, _ in layers]
        for selector, _ in self.rules:
            if selector == REST or any(_matches(selector, *layer) for layer in layers):
                continue
            types = {_type_name(kind) for _, kind in layers}
            near = difflib.get_close_matches(str(selector), [*names, *types], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"recipe: no layer matches {_spelled(selector)}{hint} "
                f"(layers: {', '.join(names) or 'none'})"
            )

    def to_mapping(self) -> dict[str, str | bool]:
        """What TOML and JSON can hold; :meth:`parse` reads it.

        Raises:
            UsageError: a rule selects by a function, which no file can hold.

        >>> Recipe.parse("w158a8", keep_ends=False).to_mapping()
        {'*': 'w158a8', 'keep_ends': False}
        """
        found: dict[str, str | bool] = {}
        for selector, recipe in self.rules:
            if not isinstance(selector, str | type):
                raise UsageError(f"recipe: {_spelled(selector)} is a function and cannot be saved")
            found[selector if isinstance(selector, str) else selector.__name__] = str(recipe)
        return found if self.keep_ends else found | {KEEP_ENDS: False}

    def __str__(self) -> str:
        if len(self.rules) == 1 and self.rules[0][0] == REST and self.keep_ends:
            return str(self.rules[0][1])
        rules: dict[str, str | bool] = {_spelled(s): str(recipe) for s, recipe in self.rules}
        return json.dumps(rules if self.keep_ends else rules | {KEEP_ENDS: False})


def _parts(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Weights, activations and modifiers of a text, each known and there at most once."""
    start = _WEIGHTS.match(text)
    if start is None:
        raise _unknown(text, f"{text!r} begins with no weight format")
    activations, modifiers, at = "", list[str](), start.end()
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            raise _unknown(text, f"{text[at:]!r} behind {text[:at]} is not understood")
        at = part.end()
        if part["activations"]:
            if activations:
                raise _refusal(text, f"activations are {activations} and {part['activations']}")
            activations = part["activations"]
            continue
        modifier = part["modifier"]
        known = (*LAYOUT_MODIFIERS, *METHODS, "token")
        if modifier not in known and not _is_group(modifier):
            near = difflib.get_close_matches(modifier, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise _refusal(
                text, f"modifier {modifier!r} is unknown{hint} (known: gNUMBER, {', '.join(known)})"
            )
        if modifier in modifiers:
            raise _refusal(text, f"{modifier} stands twice")
        modifiers.append(modifier)
    if not activations:
        raise _refusal(text, f"says no activations, such as {start[0]}a8")
    return start[0], activations, tuple(modifiers)


def _canonical(base: str, weights: Format, activations: str, modifiers: tuple[str, ...]) -> str:
    """The text with nothing that says a default; minifloats have their group before activations."""
    layout = [part for part in str(weights)[len(WEIGHTS[base]) :].split("-") if part]
    rest = [m for m in (*METHODS, "token") if m in modifiers]
    early = 1 if base.startswith("fp") and layout and _is_group(layout[0]) else 0
    return "-".join(["-".join([base, *layout[:early]]) + activations, *layout[early:], *rest])


def _is_group(modifier: str) -> bool:
    return re.fullmatch(r"g[1-9]\d*", modifier) is not None


def _rules(
    source: Mapping[Any, Any],
) -> tuple[tuple[tuple[Selector, LayerRecipe], ...], bool]:
    """Rules with the rest at the end, and whether ends are kept wider."""
    rules, problems, keep_ends = list[tuple[Selector, LayerRecipe]](), list[str](), True
    for selector, value in source.items():
        if selector == KEEP_ENDS and isinstance(value, bool):
            keep_ends = value
        elif not isinstance(selector, str) and not callable(selector):
            problems.append(f"{selector!r}: must be a name, a class or a function of both")
        elif not isinstance(value, str | LayerRecipe):
            problems.append(f"{_spelled(selector)}: must be a text such as w4a8, not {value!r}")
        else:
            try:
                recipe = value if isinstance(value, LayerRecipe) else LayerRecipe.parse(value)
            except UsageError as error:
                problems.append(f"{_spelled(selector)}: {error}")
            else:
                rules.append((selector, recipe))
    if not rules and not problems:
        problems.append(f'no rule; the least is {{"{REST}": "w8a8"}}')
    if problems:
        raise UsageError("\n  ".join(["recipe: not a possible recipe", *problems]))
    return tuple(sorted(rules, key=lambda rule: rule[0] == REST)), keep_ends


def _from_json(text: str) -> Mapping[Any, Any]:
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"recipe: begins like a JSON object and is none: {error}") from error
    assert isinstance(found, dict)
    return found


def _matches(selector: Selector, name: str, module_type: ModuleType) -> bool:
    if isinstance(selector, str):
        return fnmatch.fnmatchcase(name, selector) or selector in _type_names(module_type)
    if isinstance(selector, type):
        if isinstance(module_type, type):
            return issubclass(module_type, selector)
        return selector.__name__ == module_type
    return bool(selector(name, module_type))


def _type_names(module_type: ModuleType) -> tuple[str, ...]:
    if isinstance(module_type, str):
        return (module_type,)
    return tuple(kind.__name__ for kind in module_type.__mro__ if kind is not object)


def _type_name(module_type: ModuleType) -> str:
    return _type_names(module_type)[0]


def _spelled(selector: Selector) -> str:
    return selector if isinstance(selector, str) else getattr(selector, "__name__", repr(selector))


def _narrow(recipe: LayerRecipe) -> bool:
    """Whether a layer loses by it against :data:`ENDS`."""
    if recipe.weights is None or recipe.activations is None:
        return False
    return recipe.weights.element.bits < 8 or recipe.activations.bits < 8


def _refusal(text: str, why: str) -> UsageError:
    return UsageError(f"recipe {text!r}: {why}")


def _unknown(text: str, why: str) -> UsageError:
    near = difflib.get_close_matches(text, [*(f"{name}a8" for name in WEIGHTS), FLOAT], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return _refusal(
        text, f"{why}{hint} (known: {', '.join(WEIGHTS)}, each followed by a8; {FLOAT})"
    )
