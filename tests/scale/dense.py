"""A Keras model as large as asked: `python -m tests.scale.dense FILE LAYERS WIDTH`."""

from __future__ import annotations

import sys


def main() -> None:
    """Save a chain of Dense layers with a Relu each: float32 `x` [batch, width] to as many, the same in every run."""
    import keras

    path, layers, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    chain = [keras.Input((width,), name="x")]
    for i in range(layers):
        # Uniform and centred, of the variance that keeps a Relu network's answers in range.
        weights = keras.initializers.HeUniform(seed=i)
        chain.append(
            keras.layers.Dense(width, "relu", kernel_initializer=weights, name=f"dense{i:02d}")
        )
    keras.Sequential(chain, name="chain").save(path)


if __name__ == "__main__":
    main()
