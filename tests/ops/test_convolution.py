"""Hashing as a convolution, for devices without fp32 matrix products, gives the same buckets."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from reformer_ops.core.onnx_writer import OnnxWriter
from reformer_ops.lsh_bucket.onnx_body import convolution_body
from reformer_ops.lsh_bucket.spec import LSH_BUCKET

from . import tolerances

TYPES = {"float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("number", range(len(tolerances.cases(LSH_BUCKET))))
def test_convolution_keeps_the_law(number: int, dtype: str) -> None:
    case = tolerances.exact_in(tolerances.cases(LSH_BUCKET)[number], LSH_BUCKET, dtype)
    query = ir.Value(
        name="query",
        type=ir.TensorType(TYPES[dtype]),
        shape=ir.Shape(["batch", "length", *case.inputs["query"].shape[2:]]),
    )
    mask = ir.Value(
        name="mask", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape(["batch", "length"])
    )
    writer = OnnxWriter(TYPES[dtype])
    rotations = case.inputs["rotations"]
    buckets = convolution_body(writer, query, rotations, mask, **case.attributes)
    buckets.type = ir.TensorType(ir.DataType.INT32)
    graph = ir.Graph(
        [query, mask], [buckets], nodes=writer.nodes, opset_imports={"": 18}, name="hash"
    )
    assert not [node for node in graph if node.op_type == "MatMul"]
    proto = ir.to_proto(ir.Model(graph, ir_version=10))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    feeds = {"query": case.inputs["query"].astype(dtype), "mask": case.inputs["mask"]}
    (found,) = session.run(None, feeds)
    tolerances.check(
        LSH_BUCKET, case, dtype, np.asarray(found), tolerances.expected(LSH_BUCKET, case)
    )
