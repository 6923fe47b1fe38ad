"""An .ort file read back as ONNX."""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack import onnxfile, ortfile
from edgepack.artifact import ModelFile
from edgepack.errors import ModelError
from edgepack.passes.float16 import Float16
from edgepack.passes.int8 import Int8
from edgepack.passes.ort_format import OrtFormat
from edgepack.passes.simplify import Simplify
from edgepack.prove.engine import answers
from edgepack.prove.golden import golden_feeds
from tests.models import (
    BOOL,
    FLOAT,
    INT64,
    conv_model,
    free_size_model,
    images,
    model,
    run_step,
    tensors,
    two_input_model,
    value,
    wrap,
)


def plain(folder: Path) -> ModelFile:
    """64 features: weights that are references in what is read back."""
    return run_step(
        Simplify(), wrap(conv_model(batch=1, features=64), folder, "plain"), folder
    ).model


def branches_and_loop() -> onnx.ModelProto:
    """float32 `x` [4], bool `doubled` [], int64 `times` [] to float32 `y` [4] and `steps` [times, 4]: subgraphs that take `x` and a weight from outside."""
    weight = np.arange(4, dtype=np.float32)
    twice = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["then_out"])],
        "then",
        [],
        [value("then_out", FLOAT, [4])],
    )
    once = helper.make_graph(
        [helper.make_node("Mul", ["x", "weight"], ["else_out"])],
        "else",
        [],
        [value("else_out", FLOAT, [4])],
    )
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["on_out"]),
            helper.make_node("Add", ["sum", "inner"], ["sum_out"]),
            helper.make_node("Tanh", ["sum_out"], ["scan"]),
        ],
        "body",
        [value("i", INT64, []), value("on", BOOL, []), value("sum", FLOAT, [4])],
        [value("on_out", BOOL, []), value("sum_out", FLOAT, [4]), value("scan", FLOAT, [4])],
        tensors({"inner": weight * 0.5}),
    )
    nodes = [
        helper.make_node("If", ["doubled"], ["branch"], "if", then_branch=twice, else_branch=once),
        helper.make_node("Loop", ["times", "", "branch"], ["y", "steps"], "loop", body=body),
    ]
    inputs = [value("x", FLOAT, [4]), value("doubled", BOOL, []), value("times", INT64, [])]
    outputs = [value("y", FLOAT, [4]), value("steps", FLOAT, ["times", 4])]
    return model(nodes, inputs, outputs, tensors({"weight": weight}))


def attributes_of_each_kind() -> onnx.ModelProto:
    """float32 `x` [2, 3] to float32 `y` [2], `z` [2, 8]: floats, ints, strings, a tensor, a missing optional input, a scalar, two weights of strings."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(2, 32, 3)).astype(np.float32),
        "r": rng.normal(size=(2, 32, 8)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["sequence"]),
        helper.make_node(
            "LSTM",
            ["sequence", "w", "r"],
            ["", "hidden"],
            "lstm",
            hidden_size=8,
            direction="bidirectional",
            activations=["Sigmoid", "Tanh", "Tanh"] * 2,
            clip=3.5,
        ),
        helper.make_node("ReduceSum", ["hidden", "axes"], ["z"], keepdims=0),
        helper.make_node("Clip", ["x", "", "top"], ["low"]),
        helper.make_node("ArgMax", ["low"], ["best"], axis=1, keepdims=0),
        helper.make_node(
            "LabelEncoder",
            ["best"],
            ["label"],
            domain="ai.onnx.ml",
            keys_int64s=[0, 1, 2],
            values_strings=["a", "ß", ""],
        ),
        helper.make_node(
            "LabelEncoder",
            ["label"],
            ["y"],
            domain="ai.onnx.ml",
            keys_strings=["a", "ß", ""],
            values_floats=[0.5, 1.5, 2.5],
        ),
    ]
    constants = tensors({**weights, "axes": np.array([0]), "top": np.array(0.5, np.float32)})
    graph = [value("x", FLOAT, [2, 3])]
    outputs = [value("y", FLOAT, [2]), value("z", FLOAT, [2, 8])]
    proto = model(nodes, graph, outputs, constants)
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    return proto


def int8(folder: Path) -> ModelFile:
    return run_step(Int8(), plain(folder), folder, images(8)).model


def int8_unsigned(folder: Path) -> ModelFile:
    recipe = Int8(activations="uint8", weights="uint8", per_channel=False)
    return run_step(recipe, plain(folder), folder, images(8)).model


def float16(folder: Path) -> ModelFile:
    return run_step(Float16(), plain(folder), folder).model


MODELS: dict[str, Callable[[Path], ModelFile]] = {
    "fp32": plain,
    "int8": int8,
    "uint8": int8_unsigned,
    "fp16": float16,
    "loop": lambda folder: wrap(branches_and_loop(), folder),
    "attributes": lambda folder: wrap(attributes_of_each_kind(), folder),
    "two": lambda folder: wrap(two_input_model(), folder),
    "free": lambda folder: wrap(free_size_model(), folder),
}


def read_back(made: ModelFile, folder: Path) -> ModelFile:
    return onnxfile.save(
        ortfile.read(made.path), folder / "read back.onnx", folder=made.path.parent
    )


@pytest.mark.parametrize("style", ["fixed", "runtime"])
@pytest.mark.parametrize("kind", MODELS)
def test_what_is_read_back_answers_bit_for_bit_the_same(
    kind: str, style: str, tmp_path: Path
) -> None:
    start = MODELS[kind](tmp_path)
    made = run_step(OrtFormat(style=style), start, tmp_path).model
    again = read_back(made, tmp_path)
    assert (again.inputs, again.outputs, again.opset) == (made.inputs, made.outputs, made.opset)
    feeds = golden_feeds(start.inputs, None)
    before, after = (answers(m.path, feeds, optimize=False) for m in (made, again))
    for expected, got in zip(before, after, strict=True):
        for name, x in expected.items():
            assert np.array_equal(x, got[name], equal_nan=True)
            assert x.dtype == got[name].dtype


@pytest.mark.parametrize("style", ["fixed", "runtime"])
@pytest.mark.parametrize("kind", [k for k in MODELS if k not in ("int8", "uint8")])
def test_it_is_valid_onnx_as_far_as_onnx_knows_the_operators(
    kind: str, style: str, tmp_path: Path
) -> None:
    made = run_step(OrtFormat(style=style), MODELS[kind](tmp_path), tmp_path).model
    onnx.checker.check_model(onnx.load(read_back(made, tmp_path).path))


def test_the_fused_operators_keep_their_domain(tmp_path: Path) -> None:
    made = run_step(OrtFormat(style="fixed"), int8(tmp_path), tmp_path).model
    proto = ortfile.read(made.path)
    fused = {n.op_type for n in proto.graph.node if n.domain == "com.microsoft"}
    assert {"QLinearConv", "QGemm"} <= fused
    assert {o.domain for o in proto.opset_import} == {"", "com.microsoft"}


def test_operators_made_for_this_machines_kernels_open_too(tmp_path: Path) -> None:
    """What a converter run for "amd64" bakes in: the blocked layout of com.microsoft.nchwc."""
    from onnxruntime.tools.convert_onnx_models_to_ort import (
        OptimizationStyle,
        convert_onnx_models_to_ort,
    )

    start = plain(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        convert_onnx_models_to_ort(
            start.path,
            output_dir=tmp_path / "amd64",
            optimization_styles=[OptimizationStyle.Fixed],
            target_platform="amd64",
        )
        gc.collect()
    path = next((tmp_path / "amd64").glob("*.ort"))
    proto = ortfile.read(path)
    if not any(n.domain == "com.microsoft.nchwc" for n in proto.graph.node):
        pytest.skip("this machine's kernels have no blocked layout")
    again = onnxfile.save(proto, tmp_path / "again.onnx", folder=path.parent)
    feeds = golden_feeds(start.inputs, None)
    before, after = (answers(p, feeds, optimize=False) for p in (path, again.path))
    assert np.array_equal(before[0]["probabilities"], after[0]["probabilities"])


def test_large_weights_stay_in_the_file_they_came_from(tmp_path: Path) -> None:
    made = run_step(OrtFormat(), plain(tmp_path), tmp_path).model
    proto = ortfile.read(made.path)
    large = [i for i in proto.graph.initializer if i.external_data]
    assert large
    assert len(proto.SerializeToString()) < made.size_bytes / 3
    for tensor in large:
        assert {e.value for e in tensor.external_data if e.key == "location"} == {made.path.name}


# Files that are wrong


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("sound")
    start = wrap(branches_and_loop(), folder)
    return run_step(OrtFormat(), start, folder).model.path.read_bytes()


def outcome(data: bytes | bytearray, path: Path) -> str:
    path.write_bytes(data)
    try:
        ortfile.read(path)
    except ModelError as error:
        return "refused" if str(path) in error.cause else f"an error without the file: {error}"
    return "read"


def test_a_file_that_is_cut_off_is_refused(sound: bytes, tmp_path: Path) -> None:
    for length in (8, 12, 100, len(sound) // 2, len(sound) - 4000):
        assert outcome(sound[:length], tmp_path / "cut.ort") == "refused"


@pytest.mark.parametrize("data", [b"", b"ORTM", b"\0" * 64, b"PK\3\4" + b"\0" * 100])
def test_another_file_is_refused(data: bytes, tmp_path: Path) -> None:
    assert outcome(data, tmp_path / "other.ort") == "refused"


def test_a_missing_file_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        ortfile.read(tmp_path / "none.ort")


def test_damaged_bytes_are_read_or_refused_and_never_crash(sound: bytes, tmp_path: Path) -> None:
    rng = random.Random(0)
    seen = set()
    for _ in range(400):
        data = bytearray(sound)
        for _ in range(rng.choice((1, 3, 30))):
            at = rng.randrange(8, len(data))
            if rng.random() < 0.5:
                data[at] = rng.randrange(256)
            else:
                data[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"))
        seen.add(outcome(data, tmp_path / "damaged.ort"))
    assert seen == {"read", "refused"}


def test_one_node_in_a_million_places_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    """A vector of nodes whose entries all lead to one node, whose inputs all lead to one name."""
    path = tmp_path / "bomb.ort"
    path.write_bytes(bomb(nodes=2000, inputs=20_000))
    tracemalloc.start()
    begin = time.monotonic()
    with pytest.raises(ModelError, match="add up to"):
        ortfile.read(path)
    assert tracemalloc.get_traced_memory()[1] < 100 * path.stat().st_size
    tracemalloc.stop()
    assert time.monotonic() - begin < 60


def bomb(*, nodes: int, inputs: int) -> bytes:
    import flatbuffers
    import onnxruntime.tools.ort_format_model  # noqa: F401
    from ort_flatbuffers_py import fbs

    builder = flatbuffers.Builder(1024)
    name = builder.CreateString("x" * 50)
    fbs.Node.StartInputsVector(builder, inputs)
    for _ in range(inputs):
        builder.PrependUOffsetTRelative(name)
    vector = builder.EndVector()
    fbs.Node.Start(builder)
    fbs.Node.AddInputs(builder, vector)
    node = fbs.Node.End(builder)
    fbs.Graph.StartNodesVector(builder, nodes)
    for _ in range(nodes):
        builder.PrependUOffsetTRelative(node)
    vector = builder.EndVector()
    fbs.Graph.Start(builder)
    fbs.Graph.AddNodes(builder, vector)
    graph = fbs.Graph.End(builder)
    fbs.Model.Start(builder)
    fbs.Model.AddGraph(builder, graph)
    whole = fbs.Model.End(builder)
    fbs.InferenceSession.Start(builder)
    fbs.InferenceSession.AddModel(builder, whole)
    builder.Finish(fbs.InferenceSession.End(builder), file_identifier=b"ORTM")
    return bytes(builder.Output())


def test_sparse_weights_are_refused_by_name_of_the_file(tmp_path: Path) -> None:
    dense = np.zeros((64, 64), np.float32)
    dense[3, 5] = 1.0
    values = numpy_helper.from_array(dense[dense != 0], "w")
    indices = numpy_helper.from_array(np.flatnonzero(dense).astype(np.int64), "w_indices")
    sparse = helper.make_sparse_tensor(values, indices, [64, 64])
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", FLOAT, [1, 64])],
        [value("y", FLOAT, [1, 64])],
    )
    proto.graph.sparse_initializer.append(sparse)
    assert sparse.values.data_type == TensorProto.FLOAT
    path = tmp_path / "sparse.onnx"
    path.write_bytes(proto.SerializeToString())
    made = run_step(OrtFormat(), onnxfile.wrap(proto, path), tmp_path).model
    with pytest.raises(ModelError, match="sparse"):
        ortfile.read(made.path)
