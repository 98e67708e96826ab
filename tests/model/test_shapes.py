"""Our shape inference against ONNX's."""

from __future__ import annotations

import onnx
import pytest

from edgekit.model import load
from edgekit.model.nodes import shape_of
from edgekit.model.passes.fold_constants import fold_constants
from tests.support.onnx_cases import OnnxCase, float_cases


@pytest.mark.parametrize("case", float_cases(), ids=lambda c: c.id)
def test_shapes_equal_those_of_onnx(case: OnnxCase) -> None:
    proto = onnx.shape_inference.infer_shapes(
        onnx.load_from_string(case.model), check_type=True, strict_mode=True, data_prop=True
    )
    infos = [*proto.graph.value_info, *proto.graph.output]
    want = {i.name: tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in infos}
    types = {i.name: i.type.tensor_type.elem_type for i in infos}
    graph = fold_constants(load(case.model).ir)[0].graph
    compared = 0
    for node in graph:
        for value in node.outputs:
            if value.name in want:
                assert shape_of(value) == want[value.name], value.name
                assert value.dtype is not None
                assert int(value.dtype) == types[value.name]
                compared += 1
    assert compared >= 1
