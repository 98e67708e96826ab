"""Recipes: what texts and mappings mean, and what is refused."""

from __future__ import annotations

import pytest

from edgekit.errors import UsageError
from edgekit.formats import Format
from edgekit.quantize.recipe import (
    METHODS,
    WEIGHTS,
    ActivationFormat,
    LayerRecipe,
    Position,
    Recipe,
)


class Base:
    """A kind of module."""


class Derived(Base):
    """A module that is a Base."""


@pytest.mark.parametrize("weights", WEIGHTS)
class TestEveryWeightFormat:
    """What holds for all."""

    def test_is_read_and_written(self, weights: str) -> None:
        recipe = LayerRecipe.parse(f"{weights}a8")
        assert recipe.weights == Format.parse(WEIGHTS[weights])
        assert recipe.activations == ActivationFormat(8, "static")
        assert recipe.method == "ste"
        assert str(recipe) == f"{weights}a8"

    def test_needs_activations(self, weights: str) -> None:
        with pytest.raises(UsageError, match=f"says no activations, such as {weights}a8"):
            LayerRecipe.parse(weights)

    def test_a_token_has_its_own_scale(self, weights: str) -> None:
        recipe = LayerRecipe.parse(f"{weights}a8-token")
        assert recipe.activations == ActivationFormat(8, "token")
        assert LayerRecipe.parse(str(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "fmt", "canonical"),
    [
        ("w4a8-g32", "int4-g32", "w4a8-g32"),
        ("w4-g32-a8", "int4-g32", "w4a8-g32"),
        ("w4-g32a8", "int4-g32", "w4a8-g32"),
        ("fp4-e2m1-g128a8", "fp4-e2m1-g128", "fp4-e2m1-g128a8"),
        ("fp4-e2m1a8-g128", "fp4-e2m1-g128", "fp4-e2m1-g128a8"),
        ("w158a8-median", "ternary", "w158a8"),
        ("w158-mean-a8", "ternary-mean", "w158a8-mean"),
        ("w158a8-c-mean-p5", "ternary-p5-c-mean", "w158a8-p5-c-mean"),
        ("w4a8-c", "int4", "w4a8"),
        ("w8a8-t", "int8-t", "w8a8-t"),
        ("w8a8-mse", "int8-mse", "w8a8-mse"),
        ("w1a1", "binary", "w1a1"),
    ],
)
def test_modifiers_change_the_format(text: str, fmt: str, canonical: str) -> None:
    recipe = LayerRecipe.parse(text)
    assert recipe.weights == Format.parse(fmt)
    assert str(recipe) == canonical
    assert LayerRecipe.parse(canonical) == recipe


def test_methods() -> None:
    assert [LayerRecipe.parse(f"w1a8-{m}").method for m in ("points", "reste")] == [
        "points",
        "reste",
    ]
    learned = LayerRecipe.parse("w4a8-lsq")
    assert learned.method == "lsq" and learned.activations is not None
    assert learned.activations.learned
    token = LayerRecipe.parse("w4a8-token-lsq")
    assert str(token) == "w4a8-lsq-token" and token.activations == ActivationFormat(8, "token")
    assert set(METHODS) == {"lsq", "points", "reste"}


def test_float() -> None:
    recipe = LayerRecipe.parse("fp32")
    assert recipe.is_float and recipe.activations is None and str(recipe) == "fp32"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with no weight format .known: w2, w3"),
        ("w9a8", "begins with no weight format; did you mean w"),
        ("fp4-e2m2a8", "did you mean fp4-e"),
        ("w4a8x", "'x' behind w4a8 is not understood"),
        ("w15a8", "'5a8' behind w1 is not understood"),
        ("w4a8-tokn", "modifier 'tokn' is unknown; did you mean token"),
        ("w4a8--t", "modifier '' is unknown"),
        ("w4a8-g0", "modifier 'g0' is unknown"),
        ("w4a8a8", "activations are a8 and a8"),
        ("w4a4", "a4 is no activation format for w4: a8"),
        ("w8a1", "a1 is no activation format for w8: a8"),
        ("w1a4", "a4 is no activation format for w1: a8 or a1"),
        ("w1a1-token", "a1 has no scale"),
        ("w4a8-t-t", "t stands twice"),
        ("w4a8-t-c", "says a thing twice"),
        ("w4a8-t-g32", "says a thing twice"),
        ("mxfp4a8-g32", "mxfp4 takes no modifiers"),
        ("w4a8-mean", "rule mean is for ternary and binary"),
        ("w4a8-p5", "no modifier 'p5'"),
        ("w4a8-reste", "reste is a method for w1"),
        ("w4a8-lsq-points", "lsq and points exclude each other"),
        ("fp4-e2m1a8-lsq", "lsq is a method for"),
        ("w1a8-lsq", "lsq is a method for"),
        ("w4a8-g32-points", "not of groups"),
        ("mxfp4a8-points", "not of groups"),
    ],
)
def test_refusals_of_texts(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Recipe.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "must be a text or a mapping"),
        ({}, r'no rule; the least is \{"\*": "w8a8"\}'),
        ({"keep_ends": True}, "no rule"),
        ({"conv": 8}, "conv: must be a text such as w4a8, not 8"),
        ({3: "w8a8"}, "3: must be a name, a class or a function"),
        ({"a": "w9a8", "b": "w4a8-x"}, r"(?s)a: recipe 'w9a8'.*\n  b: recipe 'w4a8-x'"),
        ('{"a": ', "begins like a JSON object and is none"),
        ("{" * 100_000, "begins like a JSON object and is none"),
    ],
)
def test_refusals_of_mappings(source: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe.parse(source)  # type: ignore[arg-type]


class TestLayers:
    """Which rule decides."""

    recipe = Recipe.parse(
        {
            "*": "w158a8",
            "conv1": "w8a8",
            "blocks.*.ffn": "w4a8-g32",
            Base: "shift3a8",
            "LSTM": "fp32",
            lambda name, kind: name.endswith("head"): "w6a8",
        }
    )

    @pytest.mark.parametrize(
        ("name", "kind", "text"),
        [
            ("conv1", "Conv2d", "w8a8"),
            ("conv1", Base, "w8a8"),
            ("blocks.3.ffn", "Linear", "w4a8-g32"),
            ("other", Derived, "shift3a8"),
            ("other", "Base", "shift3a8"),
            ("rnn", "LSTM", "fp32"),
            ("the.head", "Linear", "w6a8"),
            ("other", "Linear", "w158a8"),
        ],
    )
    def test_the_first_match_decides_and_the_rest_is_last(
        self, name: str, kind: type | str, text: str
    ) -> None:
        assert str(self.recipe.for_layer(name, kind)) == text

    def test_a_name_of_a_class_means_what_is_derived_too(self) -> None:
        assert str(Recipe.parse({"Base": "w4a8", "*": "w8a8"}).for_layer("x", Derived)) == "w4a8"

    def test_names_are_case_sensitive(self) -> None:
        assert str(Recipe.parse({"A*": "w4a8", "*": "w8a8"}).for_layer("abc", "Linear")) == "w8a8"

    def test_without_a_rest_a_layer_may_have_no_rule(self) -> None:
        with pytest.raises(UsageError, match=r"no rule for layer fc .Linear.; add \"\*\""):
            Recipe.parse({"conv1": "w8a8"}).for_layer("fc", "Linear")

    def test_a_rule_without_a_layer_is_refused(self) -> None:
        recipe = Recipe.parse({"cov1": "w8a8", "*": "w4a8"})
        with pytest.raises(UsageError, match="no layer matches cov1; did you mean conv1"):
            recipe.check_layers([("conv1", "Conv2d"), ("fc", "Linear")])
        Recipe.parse({"Linear": "w8a8", "*": "w4a8"}).check_layers([("fc", "Linear")])


class TestEnds:
    """First and last layers are kept wider."""

    @pytest.mark.parametrize("position", ["first", "last"])
    @pytest.mark.parametrize("text", ["w158a8", "w4a8-g32", "w1a1", "mxfp4a8"])
    def test_by_default(self, position: Position, text: str) -> None:
        choice = Recipe.parse(text).choose("fc", "Linear", position=position)
        assert str(choice.recipe) == "w8a8" and choice.kept_wider
        assert position in choice.reason
        assert str(Recipe.parse(text).for_layer("fc", "Linear", "inner")) == text

    @pytest.mark.parametrize("text", ["fp32", "w8a8-token", "fp8-e4m3a8"])
    def test_not_where_they_are_wide_already(self, text: str) -> None:
        choice = Recipe.parse(text).choose("fc", "Linear", position="last")
        assert str(choice.recipe) == text and not choice.kept_wider

    def test_not_where_they_are_named(self) -> None:
        recipe = Recipe.parse({"fc": "w4a8", "*": "w158a8"})
        assert str(recipe.for_layer("fc", "Linear", "last")) == "w4a8"

    @pytest.mark.parametrize(
        "recipe",
        [
            Recipe.parse("w158a8", keep_ends=False),
            Recipe.parse(Recipe.parse("w158a8"), keep_ends=False),
            Recipe.parse({"*": "w158a8", "keep_ends": False}),
            Recipe.parse('{"*": "w158a8", "keep_ends": false}'),
        ],
    )
    def test_not_where_it_is_switched_off(self, recipe: Recipe) -> None:
        assert str(recipe.for_layer("fc", "Linear", "first")) == "w158a8"
        assert Recipe.parse(str(recipe)) == recipe


@pytest.mark.parametrize(
    "source", ["w4a8-g32", {"conv1": "w8a8", "*": "w158a8"}, {"a": "fp32", "keep_ends": False}]
)
def test_text_and_mapping_give_the_recipe_back(source: str | dict[str, str]) -> None:
    recipe = Recipe.parse(source)
    assert Recipe.parse(str(recipe)) == recipe
    assert Recipe.parse(recipe.to_mapping()) == recipe


def test_a_function_has_no_file() -> None:
    with pytest.raises(UsageError, match="is a function and cannot be saved"):
        Recipe.parse({lambda name, kind: True: "w8a8"}).to_mapping()
