"""The child that opens a model: what it may not do, what it may not use up, and what is said then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgepack
from edgepack.errors import ModelError, UsageError
from edgepack.intake.confined import Confined
from edgepack.intake.limits import Limits, machine_memory
from edgepack.intake.request import IntakeRequest
from edgepack.intake.source import Source, open_source
from edgepack.intake.vet.keras_archive import vet_keras_archive
from edgepack.prove.engine import answers
from tests.intake import hostile_files as make
from tests.intake.hostile_files import MARKER, keras_archive, keras_config
from tests.intake.standins import keras_file, tensorflow_that
from tests.models import conv_model, images, write

_ALL = {"core files", "memory", "CPU time", "file size", "network", "files", "programs"}


def confined(folder: Path, script: str, **changes: object) -> str:
    """What a Python script printed that was confined before it ran; `folder`/own is where it may write."""
    (folder / "own").mkdir(exist_ok=True)
    request = {
        "memory_bytes": 4 << 30,
        "cpu_s": 60,
        "file_bytes": 1 << 20,
        "confined": True,
        "read": [],
        "write": str(folder / "own"),
        **changes,
    }
    start = "import json, sys\nsys.path[:] = [p for p in sys.path if p]\n"
    start += "from edgepack.intake import confine\n"
    done = subprocess.run(
        [sys.executable, "-c", start + script, json.dumps(request)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def need_guards(folder: Path) -> None:
    """A skip where this system lacks a guard; in CI a failure."""
    script = "print(json.dumps(confine.confine(json.loads(sys.argv[1]))))"
    missing = _ALL - set(json.loads(confined(folder, script)))
    if missing:
        why = f"this system lacks guards: {', '.join(sorted(missing))}"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)


_CONFINE = "confine.confine(json.loads(sys.argv[1]))\n"
#: What hostile code tries; {secret} and {own} are files.
ATTEMPTS = {
    "reads a file of the user's": "open({secret!r}).read()",
    "lists a folder of the user's": "import os; os.listdir({home!r})",
    "writes beside its folder": "open({outside!r}, 'w')",
    "deletes a file of the user's": "import os; os.unlink({secret!r})",
    "renames a file of the user's": "import os; os.rename({secret!r}, {outside!r})",
    "empties a file of the user's": "import os; os.truncate({secret!r}, 0)",
    "makes a link": "import os; os.symlink('/etc/passwd', {own!r})",
    "makes a hard link": "import os; os.link({secret!r}, {own!r})",
    "makes a pipe": "import os; os.mkfifo({own!r})",
    "listens on a socket": "import socket; socket.socket(socket.AF_UNIX).bind({own!r})",
    "starts a program": "import subprocess; subprocess.run(['/bin/true'], check=True)",
    "connects": "import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
    "asks a name server": "import socket; socket.socket(2, 2).sendto(b'x', ('192.0.2.1', 53))",
    "writes a large file": "f = open({own!r}, 'wb'); f.write(bytes(2 << 20)); f.close()",
    "takes too much memory": "bytearray(5 << 30)",
    "leaves a core file": "import resource; assert resource.getrlimit(resource.RLIMIT_CORE)[0] > 0",
    "lifts its limits": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))"
    "; open({own!r}, 'wb').write(bytes(2 << 20))",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_hostile_code_gets_nowhere(tmp_path: Path, attempt: str) -> None:
    import socket

    home = tmp_path / "home"
    home.mkdir()
    secret = home / "secret"
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = ATTEMPTS[attempt].format(
            home=str(home),
            secret=str(secret),
            own=str(tmp_path / "own" / "x"),
            outside=str(home / "new"),
            port=server.getsockname()[1],
        )
        if os.getuid() == 0 and attempt == "lifts its limits":
            # Only root may; it is stopped by nothing but its conscience.
            code = "raise PermissionError"
        script = (
            f"{{}}try:\n    {code}\n    print('did it')\nexcept BaseException: print('could not')"
        )
        need_guards(tmp_path)
        assert confined(tmp_path, script.format(_CONFINE)).strip() == "could not"
        assert secret.read_text() == "secret"
        assert os.listdir(home) == ["secret"]


@pytest.mark.parametrize("attempt", ["reads a file of the user's", "connects", "makes a link"])
def test_without_guards_it_would(tmp_path: Path, attempt: str) -> None:
    """Otherwise the tests above would prove nothing."""
    import socket

    (tmp_path / "secret").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = ATTEMPTS[attempt].format(
            secret=str(tmp_path / "secret"),
            own=str(tmp_path / "own" / "x"),
            port=server.getsockname()[1],
        )
        assert "did it" in confined(tmp_path, f"{_CONFINE}{code}\nprint('did it')", confined=False)


def test_what_a_model_needs_still_works(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("weights")
    script = _CONFINE + (
        "import os, random, tempfile, threading, numpy\n"
        f"assert open({str(tmp_path / 'model')!r}).read() == 'weights'\n"
        "with tempfile.TemporaryDirectory() as d: open(d + '/x', 'w').write('x')\n"
        "t = threading.Thread(target=numpy.zeros, args=(10,)); t.start(); t.join()\n"
        "open(os.devnull, 'w').write('x'); os.urandom(4)\n"
        "print('fine')"
    )
    assert "fine" in confined(tmp_path, script, read=[str(tmp_path / "model")])
    assert not list((tmp_path / "own").iterdir())


def test_code_of_the_users_own_may_read_what_it_likes_and_no_more(tmp_path: Path) -> None:
    """As `--op-handler` asks for."""
    need_guards(tmp_path)
    (tmp_path / "library").write_text("mine")
    reads = f"print(open({str(tmp_path / 'library')!r}).read())\n"
    writes = f"try: open({str(tmp_path / 'x')!r}, 'w')\nexcept PermissionError: print('no')"
    assert confined(tmp_path, _CONFINE + reads + writes, read=["/"]).split() == ["mine", "no"]


def test_a_system_without_guards_says_which_are_left(tmp_path: Path) -> None:
    script = (
        "from edgepack.intake import landlock\n"
        "landlock.restrict = lambda *_: 0\n"
        "confine._without_network = lambda: []\n"
        "print(json.dumps(confine.confine(json.loads(sys.argv[1]))))"
    )
    left = set(json.loads(confined(tmp_path, script)))
    assert left <= {"core files", "memory", "CPU time", "file size"}
    assert "CPU time" in left


def test_a_kernel_that_refuses_landlock_is_one_without_it(tmp_path: Path) -> None:
    script = (
        "from edgepack.intake import landlock\n"
        "def refuses(*_): raise OSError(95, 'not supported')\n"
        "landlock.restrict = refuses\n"
        "print(json.dumps(confine.confine(json.loads(sys.argv[1]))))"
    )
    assert "files" not in json.loads(confined(tmp_path, script))


# Through the intake


def refusal(folder: Path) -> ModelError:
    source = open_source(keras_file(folder), folder)
    try:
        with pytest.raises(ModelError) as caught:
            _ = source.inputs
    finally:
        source.close()
    return caught.value


LIMITS = {
    "memory": ("EDGEPACK_MAX_MEMORY", "300M", "x = bytearray(1 << 30)", "300M of memory", "600M"),
    "CPU time": ("EDGEPACK_MAX_CPU", "1", "while True: pass", "1 s of CPU time", "=4"),
    "one file": (
        "EDGEPACK_MAX_FILE",
        "1M",
        "import os, tempfile; f = tempfile.TemporaryFile(); f.write(bytes(2 << 20)); f.flush()",
        "1M for one file",
        "=4M",
    ),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_that_is_hit_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    variable, value, does, says, more = LIMITS[limit]
    monkeypatch.setenv(variable, value)
    tensorflow_that(does, tmp_path, monkeypatch)
    error = refusal(tmp_path)
    assert f"the limit of {says}" in error.cause
    assert "model.keras" in error.cause
    assert error.fix.startswith(f"allow more: {variable}")
    assert more in error.fix


def test_a_model_that_is_opened_sees_nothing_of_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_guards(tmp_path)
    (tmp_path / "neighbour").write_text("secret")
    work = tmp_path / "work"
    work.mkdir()
    reads = f"import sys; print(open({str(tmp_path / 'neighbour')!r}).read(), file=sys.stderr)"
    tensorflow_that(reads, tmp_path, monkeypatch)
    source = open_source(keras_file(tmp_path), work)
    try:
        with pytest.raises(ModelError) as caught:
            _ = source.inputs
    finally:
        source.close()
    assert "PermissionError" in caught.value.cause
    assert "secret" not in caught.value.cause


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder"])
def test_only_plain_files_are_taken_from_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Else a model could have a file of the user's shipped, or written to."""
    (tmp_path / "secret").write_text("secret")
    child = Confined(
        tmp_path, name="m.keras", framework="TensorFlow", read=[], environment={}, kinds=[]
    )
    try:
        left = child.outbox / "model.onnx"
        if kind == "link":
            left.symlink_to(tmp_path / "secret")
        elif kind == "hard link":
            os.link(tmp_path / "secret", left)
        elif kind == "pipe":
            os.mkfifo(left)
        else:
            left.mkdir()
        with pytest.raises(
            ModelError, match=r"m\.keras: .* model\.onnx, which is no file of its own"
        ):
            child.take(left, tmp_path / "taken")
        left.rmdir() if kind == "folder" else left.unlink()
        left.write_text("model")
        child.take(left, tmp_path / "taken")
        assert (tmp_path / "taken").read_text() == "model"
    finally:
        child.close()


# ONNX files


def onnx_bomb(folder: Path, *nodes: onnx.NodeProto, sizes: list[int]) -> Path:
    """A model of a few bytes that makes a tensor of `sizes` as it runs, and is otherwise fine."""
    made = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["sizes"], ["large"], "bomb"),
            *nodes,
            helper.make_node("ReduceMax", ["large"], ["most"], "most", keepdims=0),
            helper.make_node("Add", ["x", "most"], ["y"], "add"),
        ],
        "bomb",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor("sizes", TensorProto.INT64, [len(sizes)], sizes)],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return write(model, folder / "bomb.onnx")


def test_an_onnx_bomb_runs_into_a_limit_and_not_into_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACK_MAX_MEMORY", "1G")
    path = onnx_bomb(tmp_path, sizes=[1 << 31])
    with pytest.raises(ModelError) as caught:
        edgepack.convert(path, tmp_path / "out" / "model.onnx")
    assert "the limit of 1G of memory" in caught.value.cause
    assert caught.value.fix.startswith("allow more: EDGEPACK_MAX_MEMORY=2G")
    assert not (tmp_path / "out").exists()


def endless(folder: Path) -> Path:
    """A loop of 2^62 rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["v", "v"], ["w"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [1, 2]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 2]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["rounds", "", "x"], ["y"], "loop", body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor("rounds", TensorProto.INT64, [], [1 << 62])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return write(model, folder / "endless.onnx")


def test_an_onnx_file_that_never_ends_runs_into_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACK_MAX_CPU", "2")
    with open_source_of(endless(tmp_path), tmp_path) as source:
        source.convert(tmp_path / "converted.onnx")
        with pytest.raises(ModelError, match="the limit of 2 s of CPU time"):
            source.answer([{"x": np.ones((1, 2), np.float32)}])


def test_an_onnx_file_answers_from_its_child_as_it_does_here(tmp_path: Path) -> None:
    path = write(conv_model(), tmp_path / "tiny.onnx")
    feeds = [{"image": x[None]} for x in images(2)]
    with open_source_of(path, tmp_path) as source:
        source.convert(tmp_path / "converted.onnx")
        given = source.answer(feeds)
        assert "CPU time" in source.guards
    for there, here in zip(given, answers(path, feeds, optimize=False), strict=True):
        assert list(there) == list(here)
        assert all(np.array_equal(there[n], here[n]) for n in here)


@contextmanager
def open_source_of(path: Path, folder: Path) -> Iterator[Source]:
    source = open_source(path, folder)
    try:
        yield source
    finally:
        source.close()


# Settings


@pytest.mark.parametrize(
    ("text", "size"), [("8G", 8 << 30), ("500m", 500 << 20), ("1.5 GiB", 3 << 29), ("4096", 4096)]
)
def test_sizes_are_read_as_people_write_them(
    monkeypatch: pytest.MonkeyPatch, text: str, size: int
) -> None:
    monkeypatch.setenv("EDGEPACK_MAX_MEMORY", text)
    assert Limits.from_environment().memory_bytes == size


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("EDGEPACK_MAX_MEMORY", "much"),
        ("EDGEPACK_MAX_MEMORY", "0"),
        ("EDGEPACK_MAX_MEMORY", "-1G"),
        ("EDGEPACK_MAX_CPU", "1h"),
        ("EDGEPACK_MAX_CPU", "0"),
        ("EDGEPACK_MAX_FILE", "x"),
        ("EDGEPACK_GUARDS", "maybe"),
    ],
)
def test_a_setting_that_is_none_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(UsageError, match=variable):
        Limits.from_environment()


def test_the_memory_of_this_machine_is_at_least_what_tensorflow_needs() -> None:
    assert machine_memory() >= 4 << 30


# --trust-model


def test_a_trusted_lambda_runs_and_the_log_says_how_it_was_guarded(tmp_path: Path) -> None:
    import keras

    doubled = keras.layers.Lambda(lambda x: x * 2.0, name="y")
    path = tmp_path / "lambda.keras"
    keras.Sequential([keras.layers.Input((2,), name="x"), doubled]).save(path)
    with pytest.raises(ModelError) as caught:
        edgepack.build(path, targets=["web"], output_dir=tmp_path / "out")
    assert "Lambda 'y'" in caught.value.cause
    assert "--trust-model" in caught.value.fix
    (result,) = edgepack.build(
        path, targets=["web"], output_dir=tmp_path / "out", intake=IntakeRequest(trusted=True)
    )
    assert dict(result.worst)["convert"] < 1e-6
    log = (result.bundle / "build.log").read_text()
    (line,) = [part for part in log.splitlines() if "guards of its process" in part]
    assert "CPU time" in line


def test_a_trusted_lambda_still_writes_nothing_of_the_users(tmp_path: Path) -> None:
    need_guards(tmp_path)
    marker = tmp_path / MARKER
    path = keras_archive(tmp_path, keras_config(make.lambda_layer(marker)))
    with pytest.raises(ModelError, match="calling Lambda"):
        edgepack.convert(path, tmp_path / "out.onnx", intake=IntakeRequest(trusted=True))
    assert not marker.exists()


def test_trust_lets_an_operator_act_but_not_on_the_users_files(tmp_path: Path) -> None:
    import tensorflow as tf

    need_guards(tmp_path)
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1, 2], name="x")
        with tf.control_dependencies([tf.io.write_file(str(tmp_path / MARKER), "x")]):
            tf.identity(x, name="y")
    path = tmp_path / "model.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(ModelError, match="PermissionDenied"):
        edgepack.convert(path, tmp_path / "out.onnx", intake=IntakeRequest(trusted=True))
    assert not (tmp_path / MARKER).exists()


def test_trust_forgives_no_damage(tmp_path: Path) -> None:
    config = keras_config(make.lambda_layer(tmp_path / MARKER))
    path = keras_archive(tmp_path, config, extra={"../x": b"x"})
    with pytest.raises(ModelError, match="leads out of the archive"):
        vet_keras_archive(path, trusted=True)
    whole = keras_archive(tmp_path, config)
    vet_keras_archive(whole, trusted=True)
    with pytest.raises(ModelError, match="Lambda"):
        vet_keras_archive(whole)
