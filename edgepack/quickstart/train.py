"""Train the quickstart's model: a small CNN on scikit-learn's digits. Writes digits_cnn.keras and digits.npz beside itself.

Needs `pip install 'edgepack[tensorflow,test]'`; takes about a minute. The digits are the UCI "Optical Recognition of Handwritten
Digits" test set (E. Alpaydin, C. Kaynak, 1998, CC BY 4.0), as scikit-learn ships them.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent
EVALUATION, CALIBRATION = 397, 200


def main() -> None:
    """Train on 1,400 digits; keep 397 others for evaluation and 200 of the training digits for calibration."""
    keras.utils.set_random_seed(7)
    digits = load_digits()
    images = digits.images.astype(np.uint8)
    order = np.random.default_rng(7).permutation(len(images))
    images, labels = images[order], digits.target[order].astype(np.uint8)
    train_x, train_y = images[EVALUATION:], labels[EVALUATION:]
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            keras.layers.Conv2D(16, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Conv2D(32, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, activation="softmax", name="probabilities"),
        ],
        name="digits",
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(scaled(train_x), train_y, epochs=30, batch_size=32, verbose=2)
    print(
        "evaluation:", model.evaluate(scaled(images[:EVALUATION]), labels[:EVALUATION], verbose=0)
    )
    # Without the optimizer's state the file is a third of the size.
    keras.Model(model.inputs, model.outputs, name="digits").save(HERE / "digits_cnn.keras")
    np.savez_compressed(
        HERE / "digits.npz",
        evaluation_images=images[:EVALUATION],
        evaluation_labels=labels[:EVALUATION],
        calibration_images=train_x[:CALIBRATION],
    )


def scaled(images: np.ndarray) -> np.ndarray:
    """uint8 [N, 8, 8] with values 0–16 → float32 [N, 8, 8, 1], 0–1."""
    return (images.astype(np.float32) / 16.0)[..., np.newaxis]


if __name__ == "__main__":
    main()
