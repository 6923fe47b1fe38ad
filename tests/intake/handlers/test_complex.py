"""Operators on complex tensors, converted to pairs of real ones, against TensorFlow itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from edgepack.errors import ModelError
from tests.intake.handlers.agreement import agree, concrete, from_tensorflow, noise

ONE: dict[str, Callable[[Any], Any]] = {
    "abs": tf.abs,
    "angle": tf.math.angle,
    "broadcast": lambda z: tf.broadcast_to(z, [3, 4, 6]),
    "cast to double": lambda z: tf.cast(z, tf.complex128) * 1j,
    "cast to real": lambda z: tf.cast(z, tf.float32),
    "cast from real": lambda z: z * tf.cast(tf.abs(z), tf.complex64),
    "conj": tf.math.conj,
    "conjugate transpose": lambda z: tf.transpose(z, conjugate=True),
    "cumsum": lambda z: tf.cumsum(z, 1),
    "exp": tf.exp,
    "expand": lambda z: tf.expand_dims(z, 1),
    "fftshift": tf.signal.fftshift,
    "gather": lambda z: tf.gather(z, [1, 0], axis=1),
    "mean": lambda z: tf.reduce_mean(z, 1),
    "mirror": lambda z: tf.pad(z, [[1, 1], [2, 2]], "REFLECT"),
    "neg": lambda z: -z,
    "new axis": lambda z: z[:, None, 0],
    "ones": lambda z: tf.raw_ops.OnesLike(x=z) * z,
    "pad": lambda z: tf.pad(z, [[1, 0], [0, 2]]),
    "pad with": lambda z: tf.pad(z, [[1, 0], [0, 2]], constant_values=tf.constant(2 + 1j, z.dtype)),
    "reciprocal": lambda z: 1 / z,
    "reshape": lambda z: tf.reshape(z, [2, -1]),
    "reshape by shape": lambda z: tf.reshape(z, [tf.shape(z)[0] // 2, -1]),
    "reverse": lambda z: tf.reverse(z, [1]),
    "roll": lambda z: tf.roll(z, 2, 1),
    "scale": lambda z: z * (2 - 1j),
    "slice": lambda z: z[1:, ::2],
    "split": lambda z: tf.split(z, 2, 1),
    "square": tf.square,
    "squeeze": lambda z: tf.squeeze(tf.expand_dims(z, 1), 1),
    "sum": lambda z: tf.reduce_sum(z, 0),
    "sum with real": lambda z: z + tf.cast(tf.math.real(z), z.dtype),
    "tile": lambda z: tf.tile(z, [2, 1]),
    "transpose": tf.transpose,
    "unit": lambda z: z / tf.cast(tf.abs(z), z.dtype),
}
TWO: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda z, w: z + w,
    "adjoint": lambda z, w: tf.matmul(z, w, adjoint_b=True),
    "batch": lambda z, w: tf.matmul(z[None], w[None], adjoint_a=True),
    "concat": lambda z, w: tf.concat([z, w], -1),
    "div": lambda z, w: z / w,
    "einsum": lambda z, w: tf.einsum("ab,cb->ac", z, w),
    "mul": lambda z, w: z * w,
    "stack": lambda z, w: tf.stack([z, w], 1),
    "sub": lambda z, w: z - w,
    "where": lambda z, w: tf.where(tf.math.real(z) > 0, z, w),
}


@pytest.mark.parametrize("name", ONE)
def test_operators_on_one_complex_tensor_agree(name: str) -> None:
    a, b = noise(2, 4, 6)
    shapes = [[None, 6]] * 2
    agree(lambda x, y: ONE[name](tf.complex(x, y)), a, b, shapes=shapes)


@pytest.mark.parametrize("name", TWO)
def test_operators_on_two_complex_tensors_agree(name: str) -> None:
    a, b, c, d = noise(4, 4, 6)
    agree(lambda x, y, z, w: TWO[name](tf.complex(x, y), tf.complex(z, w)), a, b, c, d)


def test_a_real_number_made_complex_costs_nothing() -> None:
    proto = agree(lambda x: tf.abs(tf.cast(x, tf.complex64)), noise(4, 6))
    assert [node.op_type for node in proto.graph.node] == ["Abs"]


def test_an_operator_without_a_rule_is_refused_by_name() -> None:
    def root(x: Any) -> Any:
        return tf.abs(tf.sqrt(tf.complex(x, x)))

    with pytest.raises(ModelError, match=r"Sqrt \(Sqrt\) works on complex tensors"):
        from_tensorflow(concrete(root, [noise(4)], [[4]]))


def test_a_complex_output_is_refused() -> None:
    with pytest.raises(ModelError, match="is complex") as error:
        from_tensorflow(concrete(tf.signal.rfft, [noise(2, 8)], [[2, 8]]))
    assert "tf.math.real" in error.value.fix


def test_a_complex_input_is_refused() -> None:
    values = noise(4).astype("complex64")
    with pytest.raises(ModelError, match=r"the input .* is complex"):
        from_tensorflow(concrete(tf.abs, [values], [[4]]))
