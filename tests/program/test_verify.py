"""Each rule of the verifier refuses what it is there for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgekit.errors import InvalidModelError
from edgekit.program.ir import Boundary, DType, Operation, Program, State, Tensor
from edgekit.program.operators.movement import Reshape
from edgekit.program.verify import verify
from tests.support.programs import recurrent_network, residual_network


def changed(program: Program, **tensors: Tensor) -> Program:
    """The same network with some tensors replaced."""
    return program.replace(tensors={**program.tensors, **tensors})


def violations() -> list[tuple[str, Program, str]]:
    """Rule, a Program that breaks it, words of the message."""
    net, loop = residual_network(), recurrent_network()
    first, *rest = net.operations
    w0 = net.tensors["w0"]
    unregistered = type("Reshape", (Reshape,), {})
    return [
        ("1 key", changed(net, w9=w0), "is stored under"),
        ("1 name", net.replace(operations=(first, *rest, first)), "two operations"),
        ("2 type", changed(net, w0=replace(w0, dtype=DType.INT16)), "is declared int16"),
        (
            "2 finite",
            changed(loop, w=Tensor.constant("w", np.full((4, 3), np.nan, np.float32))),
            "NaN or infinity",
        ),
        (
            "2 contiguous",
            changed(net, w0=replace(w0, data=np.asfortranarray(w0.data))),
            "not contiguous",
        ),
        ("3 unwritten", changed(net, z=Tensor("z", (1,), DType.INT8)), "neither constant"),
        (
            "3 twice",
            net.replace(operations=(first, replace(first, name="again"), *rest)),
            "already written",
        ),
        ("4 order", net.replace(operations=(*rest, first)), "before it is written"),
        (
            "4 absent",
            net.replace(operations=(replace(first, inputs=("x", "nowhere", None)), *rest)),
            "no such tensor",
        ),
        (
            "5 signature",
            net.replace(operations=(replace(first, inputs=("x",)), *rest)),
            "needs 'w'",
        ),
        (
            "5 registered",
            net.replace(
                operations=tuple(
                    replace(op, operator=unregistered(shape=(1, 90)))
                    if op.operator.name == "reshape"
                    else op
                    for op in net.operations
                )
            ),
            "not registered",
        ),
        ("6 shape", changed(net, y=Tensor("y", (1, 6), DType.INT8)), "declared"),
        ("7 tensor", net.replace(inputs=(Boundary("q", "q", (1,)),)), "no tensor 'q'"),
        (
            "7 permutation",
            net.replace(inputs=(Boundary("x", "x", (1, 3, 6, 5), (0, 0, 1, 2)),)),
            "permutes no 4 axes",
        ),
        (
            "7 shape",
            net.replace(inputs=(Boundary("x", "x", (1, 4, 6, 5), (0, 2, 3, 1)),)),
            "does not hold",
        ),
        ("7 constant", net.replace(outputs=(Boundary("w0", "w", (3, 3, 3, 3)),)), "is a constant"),
        (
            "7 view",
            net.replace(
                operations=(
                    *net.operations,
                    Operation("view", Reshape(shape=(81,)), ("w0",), ("view",)),
                ),
                tensors={**net.tensors, "view": Tensor("view", (81,), DType.INT8)},
                outputs=(*net.outputs, Boundary("view", "view", (81,))),
            ),
            "is a constant",
        ),
        ("7 none", net.replace(outputs=()), "no output"),
        (
            "7 names",
            net.replace(outputs=(*net.outputs, Boundary("sum", "scores", (1, 6, 5, 3)))),
            "two outputs are called",
        ),
        ("7 state", loop.replace(outputs=(Boundary("h", "h", (1, 4)),)), "is state"),
        ("8 type", loop.replace(state=(State("h", "x"),)), "its update"),
        (
            "8 written",
            loop.replace(state=(State("next", "next"),)),
            "also constant, fed or written",
        ),
        ("8 at once", loop.replace(state=(State("h", "h"),)), "updated with state"),
    ]


def test_sound_programs_pass() -> None:
    """And come back as they are."""
    for program in (residual_network(), recurrent_network()):
        assert verify(program) is program


@pytest.mark.parametrize(("rule", "program", "words"), violations(), ids=lambda v: str(v)[:14])
def test_a_broken_rule_is_named(rule: str, program: Program, words: str) -> None:
    """The message holds the stage and what is wrong."""
    with pytest.raises(InvalidModelError, match=words) as caught:
        verify(program, stage="a test")
    assert "after a test" in str(caught.value)


def test_every_violation_is_listed() -> None:
    """Two broken rules, two lines."""
    net = residual_network()
    broken = changed(net, z=Tensor("z", (1,), DType.INT8)).replace(outputs=())
    with pytest.raises(InvalidModelError) as caught:
        verify(broken)
    assert len(str(caught.value).splitlines()) == 3


def test_operation_without_optional_inputs() -> None:
    """None and a missing tail mean the same."""
    net = recurrent_network()
    shortened = tuple(
        Operation(op.name, op.operator, op.inputs[:2], op.outputs) for op in net.operations
    )
    verify(net.replace(operations=shortened))
