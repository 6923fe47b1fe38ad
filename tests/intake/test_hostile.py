"""Broken and hostile sources: one clear error, none of their code run, nothing left behind, bounded time."""

from __future__ import annotations

import json
import re
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import edgepack
from edgepack.errors import ModelError
from edgepack.intake.vet import operators
from edgepack.intake.vet.actions import vet_actions
from edgepack.intake.vet.graph import NODES, vet_graphdef
from edgepack.intake.vet.hdf5 import vet_archive_weights, vet_hdf5
from edgepack.intake.vet.keras_archive import vet_keras_archive
from edgepack.intake.vet.keras_config import CONFIG_BYTES
from edgepack.intake.vet.saved_model import vet_metagraph, vet_savedmodel
from tests.intake import hostile_files as make
from tests.intake.hostile_files import MARKER, keras_archive, keras_config, layer
from tests.models import conv_model, write

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2, node_def_pb2, op_def_pb2
    from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
    from tensorflow.python.client import pywrap_tf_session

v1 = tf.compat.v1


def refusal(check: Callable[[Path], None], path: Path) -> ModelError:
    """The error, which came soon and names the file."""
    begun = time.process_time()
    with pytest.raises(ModelError) as caught:
        check(path)
    assert time.process_time() - begun < 5
    assert str(path) in caught.value.cause
    assert caught.value.fix
    assert len(str(caught.value)) < 4000
    return caught.value


# .keras: the archive

ARCHIVES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "absolute path": (lambda f: keras_archive(f, extra={"/etc/x": b""}), "'/etc/x' is an absolute"),
    "drive": (lambda f: keras_archive(f, extra={"C:/x": b""}), "'C:/x' is an absolute"),
    "upwards": (lambda f: keras_archive(f, extra={"assets/../../x": b""}), "leads out"),
    "backslash": (lambda f: keras_archive(f, extra={"a\\..\\x": b""}), "backslash"),
    "newline": (lambda f: keras_archive(f, extra={"a\nb": b""}), "no name of a file"),
    "symlink": (lambda f: keras_archive(f, extra={make.symlink_entry("assets"): b"/etc"}), "symlink"),
    "case": (lambda f: keras_archive(f, extra={"Config.json": b"{}"}), "'Config.json' is there twice"),
    "ratio": (lambda f: keras_archive(f, extra={"assets/b": bytes(300 << 20)}), "would unpack"),
    "no config": (lambda f: keras_archive(f, drop="config.json"), "lacks config.json"),
    "no metadata": (lambda f: keras_archive(f, drop="metadata.json"), "lacks metadata.json"),
    "no weights": (lambda f: keras_archive(f, drop="model.weights.h5"), "lacks model.weights.h5"),
    "truncated": (lambda f: make.cut(keras_archive(f)), "cut short"),
    "only the end lost": (lambda f: make.cut(keras_archive(f), 0.99), "cut short"),
    "no json": (lambda f: keras_archive(f, "{"), "config.json is no JSON"),
    "not a model": (lambda f: keras_archive(f, "[1]"), "no Keras model's configuration"),
    "huge config": (lambda f: keras_archive(f, " " * (CONFIG_BYTES + 1)), f"more than {CONFIG_BYTES}"),
    "a million brackets": (lambda f: keras_archive(f, "[" * 100_000), "nested too deeply"),
    "a million lists": (lambda f: keras_archive(f, "[" + "[]," * 1_000_000 + "[]]"), "objects, more than"),
    "a deep model": (lambda f: keras_archive(f, nested(200)), "nested deeper than"),
}  # fmt: skip


def nested(levels: int) -> dict[str, Any]:
    config = keras_config(layer("ReLU", "r"))
    for i in range(levels):
        config = keras_config({**config, "name": f"m{i}", "inbound_nodes": []})
    return config


@pytest.mark.parametrize("case", ARCHIVES)
def test_an_archive_that_keras_does_not_write_is_refused(tmp_path: Path, case: str) -> None:
    build, words = ARCHIVES[case]
    assert words in refusal(vet_keras_archive, build(tmp_path)).cause


def test_a_duplicate_entry_is_refused(tmp_path: Path) -> None:
    path = keras_archive(tmp_path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", b"{}")
    assert "'config.json' is there twice" in refusal(vet_keras_archive, path).cause


def test_entries_that_lie_about_themselves_are_refused(tmp_path: Path) -> None:
    path = keras_archive(tmp_path)
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02")  # the directory's first entry: flags at 8, sizes at 20 and 24
    encrypted = bytearray(data)
    encrypted[at + 8] |= 1
    path.write_bytes(encrypted)
    assert "'metadata.json' is encrypted" in refusal(vet_keras_archive, path).cause
    long = bytearray(data)
    long[at + 20 : at + 24] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(long)
    assert "past the end" in refusal(vet_keras_archive, path).cause
    damaged = bytearray(data)
    damaged[data.index(b"Functional")] ^= 1
    path.write_bytes(damaged)
    assert "config.json is damaged" in refusal(vet_keras_archive, path).cause


def test_an_archive_of_a_million_entries_is_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(30_000):
            archive.writestr(f"{i}", b"")
    assert "has a directory of" in refusal(vet_keras_archive, path).cause


# .keras: the configuration

CONFIGS: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    # CVE-2024-3660
    "lambda": (make.lambda_layer, "Lambda 'evil': __lambda__ (Python bytecode)"),
    # CVE-2025-1550
    "module": (lambda f: layer("Popen", "evil", "subprocess"), "subprocess.Popen, a class of a package"),
    "submodule": (lambda f: layer("load", "evil", "keras.src.utils.io_utils"), "not Keras' own"),
    "own class": (lambda f: layer("My", "mine", "my_package.layers"), "My 'mine': my_package.layers.My"),
    # CVE-2025-8747, CVE-2025-12060
    "get_file": (
        lambda f: layer("Lambda", "evil", function=function("keras.utils", "get_file")),
        "function keras.utils.get_file, none that a model computes with",
    ),
    "a path in the name": (
        lambda f: layer("Lambda", "evil", function=function("keras", "utils.get_file")),
        "function keras.utils.get_file",
    ),
    "data set": (
        lambda f: layer("Dense", "d", activation=function("keras.datasets.mnist", "load_data")),
        "Dense 'd': function keras.datasets.mnist.load_data",
    ),
    "load_model": (
        lambda f: layer("Dense", "d", kernel_initializer=function("keras.models", "load_model")),
        "function keras.models.load_model",
    ),
    # CVE-2026-1462 and before: a SavedModel from anywhere
    "TFSMLayer": (lambda f: layer("TFSMLayer", "evil", filepath="/tmp/x"), "TFSMLayer 'evil': TFSMLayer (loads"),
    "torch": (lambda f: layer("TorchModuleWrapper", "evil", module={}), "unpickles"),
    "jax": (lambda f: layer("JaxLayer", "evil"), "Python functions"),
    # CVE-2025-12058
    "vocabulary": (
        lambda f: layer("StringLookup", "words", vocabulary="/etc/passwd"),
        "StringLookup 'words': vocabulary is the file or URL '/etc/passwd'",
    ),
    "vocabulary on the net": (
        lambda f: layer("IntegerLookup", "words", vocabulary="gs://bucket/x"),
        "'gs://bucket/x'",
    ),
    "inside a wrapper": (
        lambda f: layer("TimeDistributed", "t", layer=make.lambda_layer(f)),
        "Lambda 'evil': __lambda__",
    ),
}  # fmt: skip


def function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_that_asks_for_more_than_a_model_is_refused(
    tmp_path: Path, case: str
) -> None:
    build, words = CONFIGS[case]
    path = keras_archive(tmp_path, keras_config(build(tmp_path / MARKER)))
    assert words in refusal(vet_keras_archive, path).cause
    assert not (tmp_path / MARKER).exists()


def test_every_broken_rule_is_listed_with_its_layer(tmp_path: Path) -> None:
    bad = [layer("Popen", f"l{i}", "subprocess") for i in range(12)]
    cause = refusal(vet_keras_archive, keras_archive(tmp_path, keras_config(*bad))).cause
    assert "Popen 'l11'" in cause or "Popen 'l0'" in cause
    assert "and 2 more" in cause


def test_what_is_only_for_training_does_not_count(tmp_path: Path) -> None:
    compile_config = {"loss": {"module": "my.losses", "class_name": "Mine", "config": {}}}
    config = keras_config(layer("ReLU", "r"), compile_config=compile_config)
    vet_keras_archive(keras_archive(tmp_path, config))


# HDF5


def linked(folder: Path, link: Any) -> Path:
    path = make.hdf5(folder)
    with h5py.File(path, "a") as file:
        file["model_weights/evil"] = link
    return path


def external_storage(folder: Path) -> Path:
    path = make.hdf5(folder)
    with h5py.File(path, "a") as file:
        file.create_dataset("evil", (4,), "u1", external=[("/etc/passwd", 0, 4)])
    return path


def virtual(folder: Path) -> Path:
    path = make.hdf5(folder)
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((4,), "u1")
        layout[:] = h5py.VirtualSource("/tmp/other.h5", "data", (4,), dtype="u1")
        file.create_virtual_dataset("evil", layout)
    return path


def shape_bomb(folder: Path) -> Path:
    path = make.hdf5(folder)
    with h5py.File(path, "a") as file:
        file.create_dataset("evil", (1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1 << 10))
    return path


def many_bombs(folder: Path) -> Path:
    """Each one is small enough; together they are not."""
    path = make.hdf5(folder)
    with h5py.File(path, "a") as file:
        for i in range(2000):
            file.create_dataset(f"evil{i}", (60 << 20,), "u1")
    return path


def circle(folder: Path) -> Path:
    """A group that holds itself, which is no link that leads out, and a file one may read."""
    path = make.hdf5(folder)
    with h5py.File(path, "a") as file:
        file["model_weights/again"] = file["model_weights"]
        file["model_weights/out"] = h5py.SoftLink("/nowhere")
    return path


def attribute(folder: Path, value: Any) -> Path:
    path = make.hdf5(folder)
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
        if value is not None:
            file.attrs["model_config"] = value
    return path


def save_weights(folder: Path) -> Path:
    (folder / "model.h5").write_bytes(make.weights(folder / "w.h5"))
    return folder / "model.h5"


HDF5: dict[str, tuple[Callable[[Path], Path], str]] = {
    "external link": (lambda f: linked(f, h5py.ExternalLink("/etc/x.h5", "/")), "external link to '/etc/x.h5'"),
    "soft link": (lambda f: linked(f, h5py.SoftLink("/elsewhere")), "soft link to '/elsewhere'"),
    "external storage": (external_storage, "data in another file, '/etc/passwd'"),
    "virtual": (virtual, "virtual data set"),
    "shape bomb": (shape_bomb, "declares 4398046511104 bytes"),
    "many shape bombs": (many_bombs, "data sets declare"),
    "circle": (circle, "/model_weights/out is a soft link"),
    "truncated": (lambda f: make.cut(make.hdf5(f)), "damaged HDF5 file"),
    "cut after its magic": (lambda f: make.cut(make.hdf5(f), 0.004), "damaged HDF5 file"),
    "no architecture": (lambda f: attribute(f, None), "no Keras model"),
    "weights only": (save_weights, "the architecture, model_config, is missing"),
    "a list of configs": (lambda f: attribute(f, ["{}"] * 3), "model_config is no text"),
    "no json": (lambda f: attribute(f, "{"), "model_config is no JSON"),
    # CVE-2025-9905: Lambda layers of the old format
    "marshalled": (
        lambda f: make.hdf5(f, make.legacy_config(make.legacy_lambda(f / MARKER))),
        "Lambda 'evil': Lambda (Python bytecode, marshalled)",
    ),
    "named function": (
        lambda f: make.hdf5(f, make.legacy_config({"class_name": "Lambda", "config": {"name": "l", "function": "f"}})),
        "Lambda 'l': Lambda (a Python function)",
    ),
    "TFSMLayer": (
        lambda f: make.hdf5(f, make.legacy_config({"class_name": "TFSMLayer", "config": {"name": "l", "filepath": "/"}})),
        "TFSMLayer 'l'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HDF5)
def test_an_hdf5_file_that_leads_out_or_lies_is_refused(tmp_path: Path, case: str) -> None:
    build, words = HDF5[case]
    assert words in refusal(vet_hdf5, build(tmp_path)).cause
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("compressed", [False, True])
def test_the_weights_in_an_archive_are_looked_at_too(tmp_path: Path, compressed: bool) -> None:
    bad = linked(tmp_path, h5py.ExternalLink("/etc/x.h5", "/")).read_bytes()
    if compressed:
        path = keras_archive(tmp_path, drop="model.weights.h5", extra={"model.weights.h5": bad})
    else:
        path = keras_archive(tmp_path, weights_h5=bad)
    vet_keras_archive(path)
    assert "external link to '/etc/x.h5'" in refusal(vet_archive_weights, path).cause
    good = keras_archive(tmp_path)
    vet_archive_weights(good)


# Graphs


def node(op: str, name: str, *inputs: str, **attributes: Any) -> Any:
    made = node_def_pb2.NodeDef(op=op, name=name, input=inputs)
    for key, value in attributes.items():
        made.attr[key].CopyFrom(value)
    return made


def graph(*nodes: Any) -> Any:
    made = graph_pb2.GraphDef()
    dtype = v1.AttrValue(type=tf.float32.as_datatype_enum)
    made.node.extend([node("Placeholder", "x", dtype=dtype), *nodes])
    return made


def call(function: str) -> Any:
    value = v1.AttrValue()
    value.func.name = function
    return value


def library(calls: dict[str, list[str]]) -> Any:
    """A graph that calls the first of some functions, which call each other."""
    made = graph(node("PartitionedCall", "call", "x", f=call(next(iter(calls)))))
    for name, callees in calls.items():
        body = made.library.function.add()
        body.signature.name = name
        body.node_def.extend(
            node("PartitionedCall", f"c{i}", f=call(callee)) for i, callee in enumerate(callees)
        )
    return made


def constant(shape: list[int], content: bytes = b"", dtype: str = "float32") -> Any:
    value = v1.AttrValue()
    value.tensor.dtype = tf.as_dtype(dtype).as_datatype_enum
    value.tensor.tensor_content = content
    if not content:
        value.tensor.float_val.append(0.0)
    for size in shape:
        value.tensor.tensor_shape.dim.add().size = size
    return node("Const", "c", value=value)


GRAPHS: dict[str, tuple[Callable[[], Any], str]] = {
    "circle": (
        lambda: graph(node("Identity", "a", "b"), node("Identity", "b", "a")),
        "read each other in a circle",
    ),
    "circle of control": (
        lambda: graph(node("NoOp", "a", "^b"), node("NoOp", "b", "^a")),
        "in a circle",
    ),
    "reads itself": (lambda: graph(node("Identity", "a", "a")), "a read each other"),
    "merge without a loop": (
        lambda: graph(node("Merge", "a", "x", "b"), node("Identity", "b", "a")),
        "in a circle",
    ),
    "dangling": (lambda: graph(node("Identity", "a", "gone:1")), "'a' reads 'gone:1', which is not there"),
    "twice": (lambda: graph(node("NoOp", "a"), node("NoOp", "a")), "the name 'a' is there 2 times"),
    "unknown": (lambda: graph(node("ShellExecute", "a")), "ShellExecute ×1 (first: a)"),
    "too many": (lambda: graph_pb2.GraphDef.FromString(graph().SerializeToString() * (NODES + 1)), f"more than {NODES}"),
    "recursion": (lambda: library({"f": ["f"]}), "the function f calls itself"),
    "recursion of two": (lambda: library({"f": ["g"], "g": ["f"]}), "calls itself (through"),
    "doubling": (
        lambda: library({f"f{i}": [f"f{i + 1}"] * 2 for i in range(40)} | {"f40": []}),
        "once its functions are inlined",
    ),
    "splat": (lambda: graph(constant([1 << 31])), "'c' declares 8589934592 bytes"),
    "negative": (lambda: graph(constant([-5])), "'c' has the shape [-5]"),
    "misfit": (lambda: graph(constant([4], bytes(8))), "holds 8 bytes, its shape [4] takes 16"),
}  # fmt: skip


@pytest.mark.parametrize("case", GRAPHS)
def test_a_graph_that_is_none_is_refused(tmp_path: Path, case: str) -> None:
    build, words = GRAPHS[case]
    made = build()
    assert words in refusal(lambda path: vet_graphdef(made, path), tmp_path / "model.pb").cause


def test_two_functions_of_one_name_are_refused(tmp_path: Path) -> None:
    made = library({"f": []})
    made.library.function.append(made.library.function[0])
    assert "the function f" in refusal(lambda p: vet_graphdef(made, p), tmp_path / "m.pb").cause


def chain(count: int) -> Any:
    return graph(*[node("Identity", f"n{i}", f"n{i - 1}" if i else "x") for i in range(count)])


def star(count: int) -> Any:
    """One node that all read, and one that reads all."""
    names = [f"n{i}" for i in range(count)]
    return graph(*[node("Identity", name, "x") for name in names], node("NoOp", "all", *names))


def many_functions(count: int) -> Any:
    """Each one calls the next."""
    calls = {f"f{i}": [f"f{i + 1}"] for i in range(count // 100)}
    return library(calls | {f"f{count // 100}": []})


@pytest.mark.parametrize("build", [chain, star, many_functions])
def test_vetting_is_linear_in_nodes(tmp_path: Path, build: Callable[[int], Any]) -> None:
    """A second for 40 000 nodes; one step for each pair of them would be minutes."""
    made = build(40_000)
    begun = time.process_time()
    vet_graphdef(made, tmp_path)
    vet_actions(made, tmp_path, [made.node[-1].name])
    assert time.process_time() - begun < 15


def test_loops_of_tensorflow_1_are_no_circles(tmp_path: Path) -> None:
    with v1.Graph().as_default() as made:
        v1.disable_control_flow_v2()
        try:
            v1.while_loop(lambda i: i < 10, lambda i: i + 1, [tf.constant(0)])
        finally:
            v1.enable_control_flow_v2()
    assert any(n.op == "NextIteration" for n in made.as_graph_def().node)
    vet_graphdef(made.as_graph_def(), tmp_path)


ACTS: dict[str, tuple[Callable[[], Any], str]] = {
    "ReadFile": (lambda: tf.io.read_file("/etc/passwd"), "ReadFile (reads files): 'ReadFile'"),
    "WriteFile": (lambda: tf.io.write_file("/tmp/x", "x"), "WriteFile (writes files)"),
    "MatchingFiles": (lambda: tf.io.matching_files("/*"), "MatchingFiles (reads files)"),
    "PyFunc": (lambda: v1.py_func(lambda: 1.0, [], tf.float32), "PyFunc (calls Python)"),
    "EagerPyFunc": (lambda: tf.py_function(lambda: 1.0, [], tf.float32), "EagerPyFunc (calls Python)"),
    "TextLineDataset": (lambda: tf.raw_ops.TextLineDataset(filenames="/x", compression_type="", buffer_size=1), "reads files"),
    "SaveV2": (lambda: tf.raw_ops.SaveV2(prefix="/tmp/x", tensor_names=["a"], shape_and_slices=[""], tensors=[1.0]), "outside of saving"),
    "RestoreV2": (lambda: tf.raw_ops.RestoreV2(prefix="/tmp/x", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]), "outside of saving"),
    "summary": (lambda: tf.raw_ops.CreateSummaryFileWriter(writer=tf.raw_ops.SummaryWriter(), logdir="/tmp", max_queue=1, flush_millis=1, filename_suffix=""), "writes files"),
    "print to a file": (lambda: tf.raw_ops.PrintV2(input="x", output_stream="file:///tmp/x"), "prints to 'file:///tmp/x'"),
    "vocabulary": (lambda: tf.raw_ops.InitializeTableFromTextFileV2(table_handle=tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64), filename="/etc/passwd", key_index=0, value_index=1), "reads the file [b'/etc/passwd']"),
    # A graph in a text, where a scanner of nodes does not look.
    "hidden graph": (lambda: tf.raw_ops.DatasetFromGraph(graph_def=b""), "runs a graph of its own"),
    "debug": (lambda: tf.raw_ops.DebugIdentityV2(input=1.0, debug_urls=["file:///tmp/x"]), "files"),
    "Abort": (lambda: tf.raw_ops.Abort(), "ends the process"),
}  # fmt: skip


@pytest.mark.parametrize("case", ACTS)
@pytest.mark.parametrize("inside", [False, True])
def test_an_operator_that_does_more_than_compute_is_refused(
    tmp_path: Path, case: str, inside: bool
) -> None:
    build, words = ACTS[case]
    with v1.Graph().as_default() as made:
        if inside:
            tf.function(lambda: [build(), 1.0][1], autograph=False)()
        else:
            build()
    found = refusal(lambda p: vet_actions(made.as_graph_def(), p), tmp_path / "model.pb").cause
    assert words.partition(": '")[0] in found
    assert ("in function" in found) == inside


def test_what_nothing_reaches_stays_asleep(tmp_path: Path) -> None:
    """The input pipeline and the saver of a training checkpoint."""
    with v1.Graph().as_default() as made:
        data = tf.io.read_file("/tmp/image", name="pipeline")
        tf.identity(data, name="queue")
        x = v1.placeholder(tf.float32, [], name="x")
        tf.identity(x, name="y")
    vet_actions(made.as_graph_def(), tmp_path, ["y:0"])
    assert (
        "ReadFile"
        in refusal(lambda p: vet_actions(made.as_graph_def(), p, ["queue"]), tmp_path).cause
    )


def test_what_makes_a_fed_tensor_stays_asleep(tmp_path: Path) -> None:
    with v1.Graph().as_default() as made:
        x, other = tf.unstack(tf.io.decode_raw(tf.io.read_file("/tmp/image"), tf.uint8)[:2], num=2)
        tf.identity(x, name="y")
        tf.add(x, other, name="z")
    found = made.as_graph_def()
    vet_actions(found, tmp_path, ["y"], fed=[x.name])
    assert (
        "ReadFile"
        in refusal(lambda p: vet_actions(found, p, ["z:0"], fed=[x.name]), tmp_path).cause
    )


def test_what_acts_as_soon_as_it_is_imported_is_refused_wherever_it_is(tmp_path: Path) -> None:
    """TensorFlow evaluates the sizes that a Reshape is given, and reads the file to do so."""
    with v1.Graph().as_default() as made:
        sizes = tf.io.decode_raw(tf.io.read_file("/etc/passwd"), tf.int32)
        tf.reshape(v1.placeholder(tf.float32, name="x"), sizes)
    cause = refusal(lambda p: vet_graphdef(made.as_graph_def(), p), tmp_path).cause
    assert "ReadFile (reads files, as soon as it is imported): 'ReadFile'" in cause
    with v1.Graph().as_default() as made:
        tf.io.read_file(v1.placeholder(tf.string, name="path"))
        tf.io.write_file("/tmp/x", "x")  # stateful: it waits until it is run
    vet_graphdef(made.as_graph_def(), tmp_path)


def test_every_operator_that_takes_a_file_or_an_address_has_a_rule() -> None:
    """Held against the registry of the TensorFlow at hand, so that a new release shows what it added."""
    known = op_def_pb2.OpList()
    known.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    names = re.compile(r"file|directory|logdir|address|url|graph_def|output_stream|prefix")
    #: A list of files that others made; beams; what is written back through a checkpoint; a path made of texts.
    harmless = {"TensorSliceDataset", "ShardedFilename", "ShardedFilespec", "ReduceJoin"}
    harmless |= {"SetStatsAggregatorDataset", "ExperimentalSetStatsAggregatorDataset"}
    without = set()
    for op in known.op:
        arguments = [a.name for a in op.input_arg] + [a.name for a in op.attr]
        rule = operators.refusal(op.name, _Anything()) or any(
            p.fullmatch(op.name) for p in (operators.SAVING, operators.RESTORING, operators.TABLES)
        )
        if not rule and any(names.search(a) for a in arguments):
            without.add(op.name)
    assert len(known.op) > 1000
    assert without - harmless == set()


class _Anything(dict):  # type: ignore[type-arg]
    """Attributes that all name a file."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Any:
        value = v1.AttrValue()
        value.s = b"file:///tmp/x"
        return value


# Real models, and SavedModels that are not


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in every format, as the frameworks write it."""
    folder = tmp_path_factory.mktemp("real")
    x = keras.Input((2,), name="x")
    y = keras.layers.Dense(3, activation="gelu", kernel_regularizer="l2")(x)
    y = keras.layers.Lambda(keras.ops.relu)(keras.ops.add(y, 1.0))
    vocabulary = keras.layers.IntegerLookup(vocabulary=[1, 2])
    words = vocabulary(keras.Input((2,), name="ids", dtype="int64"))
    keras.Model(words._keras_history.operation.input, words).save(folder / "words.keras")
    model = keras.Model(x, y)
    model.compile("adam", "mse")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(folder / "model.keras")
        keras.Model(x, model.layers[1].output).save(folder / "model.h5")
        model.export(folder / "saved", verbose=False)
    with v1.Graph().as_default() as made, v1.Session() as session:
        x1 = v1.placeholder(tf.float32, [None, 2], name="x")
        kernel = v1.get_variable("kernel", [2, 3], use_resource=True)
        tf.identity(tf.matmul(x1, kernel), name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(folder / "checkpoint" / "model.ckpt"))
        frozen = v1.graph_util.convert_variables_to_constants(session, made.as_graph_def(), ["y"])
    (folder / "frozen.pb").write_bytes(frozen.SerializeToString())
    return folder


def test_what_the_frameworks_write_is_let_through(real: Path) -> None:
    for name in ("model.keras", "words.keras"):
        vet_keras_archive(real / name)
        vet_archive_weights(real / name)
    vet_hdf5(real / "model.h5")
    vet_savedmodel(real / "saved")
    frozen = graph_pb2.GraphDef.FromString((real / "frozen.pb").read_bytes())
    vet_graphdef(frozen, real / "frozen.pb")
    vet_actions(frozen, real / "frozen.pb")
    path = real / "checkpoint" / "model.ckpt.meta"
    meta = meta_graph_pb2.MetaGraphDef.FromString(path.read_bytes())
    vet_metagraph(meta, path, [])
    vet_actions(meta.graph_def, path, ["y:0"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_vocabulary_that_is_an_asset_is_let_through(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\nb\n")
    with v1.Graph().as_default(), v1.Session() as session:
        file = str(tmp_path / "words.txt")
        words = tf.lookup.TextFileInitializer(file, tf.string, 0, tf.int64, -1)
        table = v1.lookup.StaticHashTable(words, -1)
        x = v1.placeholder(tf.string, [None])
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": table.lookup(x)})
        builder = v1.saved_model.Builder(str(tmp_path / "saved"))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()
    vet_savedmodel(tmp_path / "saved")


def changed(real: Path, folder: Path, change: Callable[[Any], None]) -> Path:
    """A copy of the SavedModel with another graph."""
    copy = shutil.copytree(real / "saved", folder / "saved")
    saved = saved_model_pb2.SavedModel.FromString((copy / "saved_model.pb").read_bytes())
    change(saved.meta_graphs[0])
    (copy / "saved_model.pb").write_bytes(saved.SerializeToString())
    return copy


def poisoned_init(meta: Any, marker: Path) -> None:
    """The operation that runs as the model is loaded writes the marker."""
    text = tf.constant(str(marker)).numpy()
    for name in ("path", "content"):
        value = v1.AttrValue()
        value.tensor.dtype = tf.string.as_datatype_enum
        value.tensor.tensor_shape.SetInParent()
        value.tensor.string_val.append(text)
        kind = v1.AttrValue(type=tf.string.as_datatype_enum)
        meta.graph_def.node.append(node("Const", f"evil/{name}", value=value, dtype=kind))
    meta.graph_def.node.append(node("WriteFile", "evil/write", "evil/path", "evil/content"))
    info = meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"]
    next(n for n in meta.graph_def.node if n.name == info.name).input.append("^evil/write")


def poisoned_restore(meta: Any, marker: Path) -> None:
    """What restores the variables saves over them instead."""
    meta.saver_def.restore_op_name = meta.saver_def.save_tensor_name.partition(":")[0]


def asset(name: str) -> Callable[[Any, Path], None]:
    return lambda meta, marker: meta.asset_file_def.add(filename=name).SetInParent()


def asset_of_tensorflow_1(meta: Any, marker: Path) -> None:
    packed = meta.collection_def["saved_model_assets"].any_list.value.add()
    packed.Pack(meta_graph_pb2.AssetFileDef(filename="../../etc/passwd"))


SAVED: dict[str, tuple[Callable[[Any, Path], None], str]] = {
    "init writes": (poisoned_init, "WriteFile (writes files): 'evil/write'"),
    "restore saves": (poisoned_restore, "restoring its variables would do more than read them"),
    "asset upwards": (asset("../../etc/passwd"), "the asset '../../etc/passwd' lies outside"),
    "asset absolute": (asset("/etc/passwd"), "lies outside"),
    "asset of TensorFlow 1": (asset_of_tensorflow_1, "the asset '../../etc/passwd' lies outside"),
    "asset of Windows": (asset("..\\x"), "lies outside"),
    "asset missing": (asset("words.txt"), "assets/words.txt is missing"),
}


@pytest.mark.parametrize("case", SAVED)
def test_a_saved_model_that_does_more_than_compute_is_refused(
    real: Path, tmp_path: Path, case: str
) -> None:
    change, words = SAVED[case]
    folder = changed(real, tmp_path, lambda meta: change(meta, tmp_path / MARKER))
    assert words in refusal(vet_savedmodel, folder).cause
    assert not (tmp_path / MARKER).exists()


def test_a_saved_model_with_a_python_function_is_refused(tmp_path: Path) -> None:
    class Module(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([2], tf.float32)], autograph=False)
        def __call__(self, x: Any) -> Any:
            marker = tmp_path / MARKER
            return tf.ensure_shape(
                tf.py_function(lambda v: [marker.touch(), v][1], [x], x.dtype), [2]
            )

    module = Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    assert "EagerPyFunc (calls Python)" in refusal(vet_savedmodel, tmp_path / "saved").cause
    assert not (tmp_path / MARKER).exists()


def damage_symlink(folder: Path) -> None:
    (folder / "assets").rmdir() if (folder / "assets").is_dir() else None
    (folder / "assets").symlink_to("/etc")


def damage_index(folder: Path) -> None:
    (folder / "variables" / "variables.index").unlink()


def damage_shard(folder: Path) -> None:
    (folder / "variables" / "variables.data-00000-of-00001").unlink()


def damage_variables_link(folder: Path) -> None:
    damage_index(folder)
    (folder / "variables" / "variables.index").symlink_to("../../../gone")


FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "symlink": (damage_symlink, "assets is a symlink to '/etc', outside the folder"),
    "dangling": (damage_variables_link, "outside the folder"),
    "no index": (damage_index, "variables/variables.index is missing"),
    "no shard": (damage_shard, "0 of 1 files variables/variables.data"),
    "truncated": (lambda f: [make.cut(f / "saved_model.pb")][0] and None, "saved_model.pb"),
    "no graph": (lambda f: (f / "saved_model.pb").write_bytes(b"\x08\x01") and None, "holds no graph"),
    "junk": (lambda f: (f / "saved_model.pb").write_bytes(b"\xff" * 99) and None, "saved_model.pb is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDERS)
def test_a_saved_model_folder_with_damage_is_refused(real: Path, tmp_path: Path, case: str) -> None:
    damage, words = FOLDERS[case]
    copy = shutil.copytree(real / "saved", tmp_path / "saved")
    damage(copy)
    assert words in refusal(vet_savedmodel, copy).cause


# From end to end


def refused_conversion(path: Path, folder: Path) -> ModelError:
    """The error of `edgepack convert`, which leaves nothing behind."""
    with pytest.raises(ModelError) as caught:
        edgepack.convert(path, folder / "out" / "model.onnx")
    assert not (folder / "out").exists()
    assert not list(folder.rglob(".edgepack-*"))
    assert not (folder / MARKER).exists()
    assert path.name in caught.value.cause
    return caught.value


def test_the_bytecode_in_these_tests_is_live(tmp_path: Path) -> None:
    """Otherwise the marker would prove nothing."""
    config = make.lambda_layer(tmp_path / MARKER)["config"]["function"]["config"]
    from keras.src.utils.python_utils import func_load

    assert func_load(config["code"])(7) == 7
    assert (tmp_path / MARKER).exists()


def test_a_lambda_in_an_archive_is_refused_before_tensorflow_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepack.intake.child_source.find_spec", lambda name: None)
    path = keras_archive(tmp_path, keras_config(make.lambda_layer(tmp_path / MARKER)))
    assert "Lambda 'evil'" in refused_conversion(path, tmp_path).cause


def test_external_weights_in_an_archive_are_not_read_and_no_package_beside_the_user_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would look for h5py, and for the keras_hub that a file may name, in the working directory first."""
    code = f"open({str(tmp_path / MARKER)!r}, 'w').close()\n"
    for name in ("h5py", "keras_hub", "json", "tensorflow"):
        (tmp_path / f"{name}.py").write_text(code)
    bad = linked(tmp_path, h5py.ExternalLink("/etc/x.h5", "/")).read_bytes()
    path = keras_archive(tmp_path, keras_config(layer("A", "a", "keras_hub")), weights_h5=bad)
    monkeypatch.chdir(tmp_path)
    assert "external link to '/etc/x.h5'" in refused_conversion(path, tmp_path).cause


def test_a_marshalled_lambda_in_hdf5_does_not_run(tmp_path: Path) -> None:
    path = make.hdf5(tmp_path, make.legacy_config(make.legacy_lambda(tmp_path / MARKER)))
    assert "Lambda 'evil'" in refused_conversion(path, tmp_path).cause


def test_a_saved_model_that_writes_as_it_is_loaded_does_not_run(real: Path, tmp_path: Path) -> None:
    folder = changed(real, tmp_path, lambda meta: poisoned_init(meta, tmp_path / MARKER))
    assert "WriteFile" in refused_conversion(folder, tmp_path).cause


def test_a_frozen_graph_that_writes_is_refused(tmp_path: Path) -> None:
    with v1.Graph().as_default() as made:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        with tf.control_dependencies([tf.io.write_file(str(tmp_path / MARKER), "x")]):
            tf.identity(x, name="y")
    path = tmp_path / "model.pb"
    path.write_bytes(made.as_graph_def().SerializeToString())
    assert "WriteFile (writes files)" in refused_conversion(path, tmp_path).cause


def test_a_checkpoint_that_writes_is_refused(tmp_path: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        kernel = v1.get_variable("kernel", [2, 3], use_resource=True)
        with tf.control_dependencies([tf.io.write_file(str(tmp_path / MARKER), "x")]):
            tf.identity(tf.matmul(x, kernel), name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    path = tmp_path / "model.ckpt.meta"
    assert "WriteFile (writes files)" in refused_conversion(path, tmp_path).cause


@pytest.mark.parametrize("part", [0.1, 0.6, 0.95])
def test_a_truncated_onnx_file_is_refused(tmp_path: Path, part: float) -> None:
    refused_conversion(make.cut(write(conv_model(), tmp_path / "model.onnx"), part), tmp_path)


def test_onnx_weights_outside_its_folder_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 12))
    proto = conv_model()
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = weight.EXTERNAL
    weight.external_data.add(key="location", value="../secret")
    path = write(proto, tmp_path / "inside" / "model.onnx")
    refused_conversion(path, tmp_path)


def test_a_truncated_tflite_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(60))
    refused_conversion(path, tmp_path)


def test_the_archive_these_tests_build_is_one_that_keras_reads(tmp_path: Path) -> None:
    """So that a refusal is for what was put in."""
    model = keras.models.load_model(keras_archive(tmp_path), compile=False)
    assert model.output_shape == (None, 2)
    assert json.loads(model.to_json())["class_name"] == "Functional"
    assert np.asarray(model(np.ones((1, 2)))).tolist() == [[1.0, 1.0]]
