"""Jetson modules: what is known of them, and what a TOML file cannot say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.errors import InvalidBoardError
from edgekit.targets.jetson.modules import (
    DEFAULT,
    FORMATS,
    MODULE_FOLDER,
    MODULES,
    JetPack,
    Module,
    load_module,
)
from edgekit.targets.target import target

NANO = MODULES[DEFAULT]


def test_the_short_name_means_the_default() -> None:
    assert next(iter(MODULES)) == DEFAULT
    assert target("jetson").module is NANO
    assert target("jetson").status == "needs-hardware"


def test_every_file_is_a_module() -> None:
    assert {path.stem for path in MODULE_FOLDER.glob("*.toml")} == set(MODULES)


def test_tensorrt_by_jetpack() -> None:
    majors = {name: module.tensorrt_majors for name, module in MODULES.items()}
    assert majors == {
        "jetson-orin-nano": (10,),
        "jetson-orin-nx": (10,),
        "jetson-agx-orin": (10, 11),
        "jetson-thor": (10, 11),
    }
    for module in MODULES.values():
        newest = [r for r in module.jetpack if r.major == 11]
        assert [(r.version, r.tensorrt) for r in newest] in ([], [("7.2.2", "11.4.1")])


def test_only_orins_drive_a_dla() -> None:
    with_dla = {name for name, m in MODULES.items() if any(r.dla for r in m.jetpack)}
    assert with_dla == {"jetson-orin-nx", "jetson-agx-orin"}


@pytest.mark.parametrize("name", MODULES)
def test_formats_follow_from_the_compute_capability(name: str) -> None:
    module = MODULES[name]
    wanted = {f for f, needed in FORMATS.items() if module.compute_capability >= needed}
    assert set(module.formats) == wanted
    assert {f: module.support(f) == "native" for f in FORMATS} == {f: f in wanted for f in FORMATS}


def test_fp4_on_orin_is_emulated() -> None:
    assert MODULES["jetson-agx-orin"].support("fp4") == "emulated"
    assert MODULES["jetson-thor"].support("fp4") == "native"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "nano"}, "name: must be 'jetson-'"),
        ({"description": " "}, "description: must be text"),
        ({"source": ""}, "source: must be text"),
        ({"compute_capability": (8,)}, "compute_capability: must be [major, minor]"),
        ({"compute_capability": (8, True)}, "compute_capability: must be [major, minor]"),
        ({"memory_bytes": 8}, "memory_bytes: must be from"),
        ({"memory_bytes": 8e9}, "memory_bytes: must be from"),
        ({"dla_cores": -1}, "dla_cores: must be from"),
        ({"power_modes": "15W"}, "power_modes: must be a list"),
        ({"formats": ()}, "formats: must be a list"),
        ({"formats": ("int8", "int3")}, "formats: must be of fp16, int8, fp8, fp4, not 'int3'"),
        ({"formats": ("fp4",)}, "formats: fp4 needs compute capability 10.0"),
        ({"jetpack": ()}, "jetpack: there must be a release"),
        ({"jetpack": (JetPack("6.2", "10.3", True),)}, "drives a DLA, but dla_cores is 0"),
    ],
)
def test_impossible_modules(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidBoardError) as caught:
        replace(NANO, **changes)  # type: ignore[arg-type]
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("6", "10.3"), "version: must be numbers"),
        (("6.2", "ten"), "tensorrt: must be numbers"),
        (("6.0", "8.6"), "tensorrt: must be version 10 or 11"),
        (("6.2", "10.3", "yes"), "dla: must be true or false"),
    ],
)
def test_impossible_releases(arguments: tuple[str, ...], problem: str) -> None:
    with pytest.raises(InvalidBoardError) as caught:
        JetPack(*arguments)  # type: ignore[arg-type]
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("name = ", "nmae = ", "nmae: unknown; did you mean name?"),
        ("memory_bytes = 8_589_934_592\n", "", "memory_bytes: missing"),
        ("[[jetpack]]", "[jetpack]", "is not TOML"),
        ("tensorrt = ", "tensort = ", "jetpack[0].tensort: unknown"),
        ("formats = [", "formats = ", "is not TOML"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = (MODULE_FOLDER / f"{DEFAULT}.toml").read_text("utf-8")
    assert old in text
    path = tmp_path / "module.toml"
    path.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(InvalidBoardError) as caught:
        load_module(path)
    assert problem in str(caught.value)


def test_a_list_of_releases_must_be_tables(tmp_path: Path) -> None:
    path = tmp_path / "module.toml"
    path.write_text('name = "jetson-x"\njetpack = ["6.2"]\n', "utf-8")
    with pytest.raises(InvalidBoardError, match="must be an array of tables"):
        load_module(path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidBoardError, match="cannot be read"):
        load_module(tmp_path / "absent.toml")


def test_reading_gives_the_module_again() -> None:
    assert isinstance(NANO, Module)
    assert load_module(MODULE_FOLDER / f"{DEFAULT}.toml") == NANO
