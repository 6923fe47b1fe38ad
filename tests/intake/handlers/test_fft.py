"""Spectral operators, converted, against TensorFlow itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from edgepack.errors import ModelError
from tests.intake.handlers.agreement import (
    agree,
    concrete,
    from_tensorflow,
    from_tflite,
    noise,
    operators,
    run,
    same,
)

signal = tf.signal

# Operators


@pytest.mark.parametrize("length", [1, 8, 9, 400, 1024, 1000])
@pytest.mark.parametrize("kind", ["fft", "ifft"])
def test_complex_transforms_agree(kind: str, length: int) -> None:
    a, b = noise(2, 6, length)
    agree(lambda x, y: getattr(signal, kind)(tf.complex(x, y)), a, b)


@pytest.mark.parametrize("length", [1, 8, 9, 400, 1024, 1000, 1031])
def test_real_transforms_agree_there_and_back(length: int) -> None:
    agree(lambda x: (signal.rfft(x), signal.irfft(signal.rfft(x), [length])), noise(3, length))


@pytest.mark.parametrize("kind", ["fft2d", "ifft2d", "fft3d", "ifft3d", "irfft2d", "irfft3d"])
def test_transforms_along_several_axes_agree(kind: str) -> None:
    a, b = noise(2, 2, 4, 5, 6)
    agree(lambda x, y: getattr(signal, kind)(tf.complex(x, y)), a, b)


@pytest.mark.parametrize("kind", ["rfft2d", "rfft3d"])
def test_real_transforms_along_several_axes_agree(kind: str) -> None:
    agree(getattr(signal, kind), noise(2, 4, 5, 6))


@pytest.mark.parametrize("length", [4, 9, 16])
@pytest.mark.parametrize("shape", [[3, 9], [None, None]])
def test_a_signal_is_cut_or_filled_up_to_fft_length(length: int, shape: list[int | None]) -> None:
    agree(lambda x: signal.rfft(x, [length]), noise(3, 9), shapes=[shape])
    a, b = noise(2, 3, 9)
    agree(lambda x, y: signal.irfft(tf.complex(x, y), [length]), a, b, shapes=[shape, shape])


def test_a_rectangle_is_cut_and_filled_up() -> None:
    agree(lambda x: signal.rfft2d(x, [8, 4]), noise(2, 5, 6))


def test_several_free_sizes_stand_before_a_long_transform() -> None:
    agree(signal.rfft, noise(2, 3, 1024), shapes=[[None, None, 1024]])


def test_doubles_stay_doubles() -> None:
    agree(signal.rfft, noise(3, 16).astype(np.float64))


def test_a_long_transform_needs_no_big_matrix_and_no_dft_operator() -> None:
    proto = agree(lambda x: tf.abs(signal.rfft(x)), noise(2, 4096))
    assert proto.ByteSize() < 100_000
    assert "DFT" not in operators(proto)


@pytest.mark.parametrize("length", [256, 512, 1024, 4096, 16000])
def test_the_error_is_a_few_float32_steps_of_the_signals_norm(length: int) -> None:
    x = noise(10, length)
    function = concrete(lambda v: tf.math.real(signal.rfft(v)), [x], [x.shape])
    (answer,) = run(from_tensorflow(function), [x])
    exact = np.fft.rfft(x.astype(np.float64)).real
    norm = np.linalg.norm(x.astype(np.float64), axis=-1, keepdims=True)
    assert (np.abs(answer - exact) / norm).max() < 4e-6


# What cannot be


def test_a_length_computed_at_run_time_is_refused() -> None:
    function = concrete(lambda x: tf.abs(signal.rfft(x)), [noise(3, 9)], [[None, None]])
    with pytest.raises(ModelError, match=r"\(RFFT\): fft_length is computed at run time"):
        from_tensorflow(function)


def test_a_free_length_is_refused() -> None:
    def spectrum(x: Any) -> Any:
        return tf.abs(signal.fft(tf.cast(x, tf.complex64)))

    with pytest.raises(ModelError, match=r"\(FFT\): the length of the transform is a free size"):
        from_tensorflow(concrete(spectrum, [noise(3, 9)], [[3, None]]))


def test_a_big_prime_length_is_refused_with_the_next_one_that_works() -> None:
    function = concrete(lambda x: tf.abs(signal.rfft(x)), [noise(1, 2053)], [[1, 2053]])
    with pytest.raises(ModelError, match="length 2053") as error:
        from_tensorflow(function)
    assert "2054" in error.value.fix


# Audio front ends

FREE = pytest.mark.parametrize("shape", [[2, 4000], [None, None]], ids=["fixed", "free"])


def stft(x: Any) -> Any:
    return signal.stft(x, 400, 160, 512)


@FREE
@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(lambda z: z, id="parts"),
        pytest.param(tf.abs, id="magnitude"),
        pytest.param(lambda z: tf.abs(z) ** 2, id="power"),
        pytest.param(lambda z: tf.math.real(z * tf.math.conj(z)), id="conjugate product"),
        pytest.param(tf.math.angle, id="angle"),
    ],
)
def test_stft_agrees(ending: Callable[[Any], Any], shape: list[int | None]) -> None:
    agree(lambda x: ending(stft(x)), noise(2, 4000), shapes=[shape])


@FREE
def test_inverse_stft_agrees(shape: list[int | None]) -> None:
    """400 samples in steps of 160: the segments do not divide evenly."""

    def there_and_back(x: Any) -> Any:
        window = signal.inverse_stft_window_fn(160)
        return signal.inverse_stft(stft(x), 400, 160, 512, window_fn=window)

    agree(there_and_back, noise(2, 4000), shapes=[shape])


@FREE
def test_mfcc_agrees(shape: list[int | None]) -> None:
    def mfcc(x: Any) -> Any:
        mel = signal.linear_to_mel_weight_matrix(40, 257, 16000, 80.0, 7600.0)
        log = tf.math.log(tf.tensordot(tf.abs(stft(x)), mel, 1) + 1e-6)
        return signal.mfccs_from_log_mel_spectrograms(log)[..., :13]

    agree(mfcc, noise(2, 4000), shapes=[shape])


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_dct_agrees(kind: int) -> None:
    agree(lambda x: (signal.dct(x, kind), signal.idct(x, kind)), noise(2, 20))


def test_mdct_agrees_there_and_back() -> None:
    agree(lambda x: signal.inverse_mdct(signal.mdct(x, 64)), noise(2, 1024), shapes=[[None, None]])


def test_griffin_lim_agrees() -> None:
    def rebuild(size: Any) -> Any:
        z = tf.cast(size, tf.complex64)
        for _ in range(2):
            guess = signal.stft(signal.inverse_stft(z, 64, 16), 64, 16)
            phase = guess / tf.cast(tf.maximum(1e-8, tf.abs(guess)), tf.complex64)
            z = tf.cast(size, tf.complex64) * phase
        return signal.inverse_stft(z, 64, 16)

    agree(rebuild, np.abs(noise(2, 20, 33)), shapes=[[None, None, 33]])


def test_a_transform_in_a_loop_agrees() -> None:
    agree(
        lambda x: tf.map_fn(lambda row: tf.abs(signal.stft(row, 64, 16)), x),
        noise(3, 400),
        shapes=[[None, 400]],
    )


# Keras


@FREE
@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(
            {
                "fft_length": 512,
                "sequence_stride": 160,
                "sequence_length": 400,
                "num_mel_bins": 40,
            },
            id="512",
        ),
        pytest.param({}, id="2048"),
    ],
)
def test_keras_mel_spectrogram_agrees(layer: dict[str, Any], shape: list[int | None]) -> None:
    mel = keras.layers.MelSpectrogram(**layer)
    mel.build((None, 4000))
    agree(mel, noise(2, 4000), shapes=[shape])


@pytest.mark.parametrize("mode", ["log", "angle", "stft"])
def test_keras_stft_spectrogram_agrees(mode: str) -> None:
    layer = keras.layers.STFTSpectrogram(
        mode=mode, frame_length=400, frame_step=160, fft_length=512
    )
    layer.build((None, 4000, 1))
    agree(layer, noise(2, 4000, 1), shapes=[[None, None, 1]])


@FREE
def test_keras_stft_and_istft_agree(shape: list[int | None]) -> None:
    def there_and_back(x: Any) -> Any:
        parts = keras.ops.stft(x, 400, 160, 512)
        return [*parts, keras.ops.istft(parts, 400, 160, 512)]

    agree(there_and_back, noise(2, 4000), shapes=[shape])


@pytest.mark.parametrize("kind", ["fft", "fft2", "ifft2"])
def test_keras_transforms_agree(kind: str) -> None:
    agree(lambda x: getattr(keras.ops, kind)((x, 2 * x)), noise(2, 30, 20), shapes=[[None, 30, 20]])


def test_keras_rfft_and_irfft_agree() -> None:
    agree(
        lambda x: keras.ops.irfft(keras.ops.rfft(x, 256), 256), noise(2, 300), shapes=[[None, None]]
    )


# TFLite


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: tf.abs(signal.rfft(x)), id="magnitude"),
        pytest.param(lambda x: tf.math.real(signal.rfft2d(x)), id="real"),
        pytest.param(lambda x: tf.math.imag(signal.rfft2d(x, [4, 2048])), id="filled up"),
        pytest.param(lambda x: tf.abs(signal.rfft(x) * signal.rfft(x)), id="product"),
        pytest.param(lambda x: tf.abs(stft(x)), id="stft"),
        pytest.param(lambda x: tf.math.log(tf.abs(stft(x)) + 1e-3), id="log of stft"),
    ],
)
def test_tflite_agrees(function: Callable[[Any], Any], tmp_path: Path) -> None:
    x = noise(2, 1024)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [concrete(function, [x], [x.shape])]
    )
    path = tmp_path / "model.tflite"
    path.write_bytes(converter.convert())
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    same(run(from_tflite(path), [x]), [expected])
