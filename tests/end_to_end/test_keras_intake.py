"""Models that only TensorFlow can open: every format, names, and what is refused. Each opens a real TensorFlow process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import edgepack
from edgepack.errors import ModelError
from edgepack.intake.source import open_source

MAKE_MODELS = """
    import sys, keras, numpy as np
    from pathlib import Path
    out = Path(sys.argv[1])
    keras.utils.set_random_seed(1)

    a = keras.Input((6,), name="left")
    b = keras.Input((None, 4), name="right side")
    summed = keras.layers.Dense(3, name="sum")(a)
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.LSTM(3, return_sequences=True)(b))
    both = keras.layers.Add(name="both")([summed, pooled])
    two = keras.Model([a, b], {"first": both, "second": keras.layers.Softmax(name="soft")(summed)})
    two.save(out / "two.keras")

    sequential = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(2)])
    sequential.save(out / "sequential.keras")
    sequential.export(out / "saved", verbose=False)

    steps = keras.Input((5, 4), name="steps")
    read = keras.layers.Bidirectional(keras.layers.GRU(3, return_sequences=True))(steps)
    keras.Model(steps, keras.layers.SimpleRNN(2, name="last")(read)).save(out / "loops.keras")

    ids = keras.Input((5,), dtype="int32", name="tokens")
    keras.Model(ids, keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(2, 4, name="vectors")(ids))).save(out / "tokens.h5")

    x = keras.Input((2,), name="x")
    keras.Model(x, keras.layers.Lambda(lambda t: t * 2)(x)).save(out / "lambda.keras")
"""


@pytest.fixture(scope="session")
def keras_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MAKE_MODELS), str(folder)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_two_inputs_and_outputs_keep_their_names_and_free_dimensions(keras_models, tmp_path):
    result = edgepack.convert(keras_models / "two.keras", tmp_path / "two.onnx")
    inputs = {s.name: s.shape for s in result.model.inputs}
    assert inputs == {"left": ("batch", 6), "right side": ("batch", "right side_time", 4)}
    # A dictionary's keys, as the exported SavedModel has them, not the layers' names.
    assert [s.name for s in result.model.outputs] == ["first", "second"]
    assert all(p.passed and p.max_abs < 1e-5 for p in result.parity)


def test_sequential_builds_for_a_static_target(keras_models, tmp_path):
    (result,) = edgepack.build(
        keras_models / "sequential.keras", targets=["jetson-orin"], output_dir=tmp_path
    )
    assert result.precision == "fp16"
    assert edgepack.verify(result.bundle).passed


def test_savedmodel_gives_the_same_answers_as_the_model_it_was_exported_from(
    keras_models, tmp_path
):
    edgepack.convert(keras_models / "saved", tmp_path / "saved.onnx")
    edgepack.convert(keras_models / "sequential.keras", tmp_path / "sequential.onnx")
    import onnxruntime as ort

    x = np.random.default_rng(0).random((1, 8, 8, 1), dtype=np.float32)
    answers = []
    for name in ("saved", "sequential"):
        session = ort.InferenceSession(tmp_path / f"{name}.onnx")
        answers.append(session.run(None, {session.get_inputs()[0].name: x})[0])
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)


def test_integer_inputs_of_an_hdf5_model_convert(keras_models, tmp_path):
    result = edgepack.convert(keras_models / "tokens.h5", tmp_path / "tokens.onnx", batch=1)
    assert [(s.name, s.dtype, s.shape) for s in result.model.inputs] == [
        ("tokens", "int32", (1, 5))
    ]


@pytest.mark.parametrize("model", ["two.keras", "loops.keras"])
def test_conversion_gives_the_same_bytes_twice(keras_models, tmp_path, model):
    for name in ("a", "b"):
        edgepack.convert(keras_models / model, tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_lambda_layers_are_refused_with_a_way_out(keras_models, tmp_path):
    with pytest.raises(ModelError, match="Lambda") as caught:
        edgepack.convert(keras_models / "lambda.keras", tmp_path / "out.onnx")
    assert "SavedModel" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["two.keras", "tokens.h5"])
def test_truncated_file_is_one_clear_error(keras_models, tmp_path, name):
    whole = (keras_models / name).read_bytes()
    broken = tmp_path / name
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=name):
        edgepack.convert(broken, tmp_path / "out" / "x.onnx")
    assert not (tmp_path / "out").exists()


def test_free_dimension_on_a_static_target_names_the_option(keras_models, tmp_path):
    with pytest.raises(edgepack.EdgepackError) as caught:
        edgepack.build(keras_models / "two.keras", targets=["android"], output_dir=tmp_path / "o")
    assert "right side_time" in caught.value.cause
    assert "--shape 'right side=1x?x4'" in caught.value.fix
    assert not (tmp_path / "o").exists()


def test_a_killed_tensorflow_process_is_an_error_not_a_hang(keras_models, tmp_path):
    source = open_source(keras_models / "sequential.keras", tmp_path)
    os.kill(source.worker_pid, signal.SIGKILL)
    with pytest.raises(ModelError, match="signal 9"):
        _ = source.inputs
    source.close()
