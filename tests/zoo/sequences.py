"""Small Keras networks over time: recurrent, attention, text with masks, sound."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def recurrent(layer: str, **arguments: Any) -> Any:
    """One recurrent layer, `LSTM`, `GRU` or `SimpleRNN`, over a signal of free length."""
    signal = keras.Input((None, 5), name="signal")
    x = getattr(layers, layer)(12, **arguments)(signal)
    return keras.Model(signal, layers.Dense(3, name="state")(x))


def sequential_lstm(batch: int | None = None) -> Any:
    """A Sequential of stacked LSTMs, 20 steps; TFLite's converter wants the batch fixed."""
    return keras.Sequential(
        [
            keras.Input(batch_shape=(batch, 20, 4), name="history"),
            layers.LSTM(16, return_sequences=True),
            layers.LSTM(8),
            layers.Dense(1, name="forecast"),
        ]
    )


def bidirectional(layer: str, merge_mode: str) -> Any:
    """A stack of two bidirectional layers; the last one's forward and backward states merged."""
    make = getattr(layers, layer)
    signal = keras.Input((15, 6), name="signal")
    x = layers.Bidirectional(make(8, return_sequences=True))(signal)
    x = layers.Bidirectional(make(6), merge_mode=merge_mode)(x)
    return keras.Model(signal, layers.Dense(2, name="label")(x))


def seq2seq() -> Any:
    """An encoder's states start a decoder: return_state, initial_state, two inputs of free length."""
    source = keras.Input((None, 7), name="source")
    target = keras.Input((None, 5), name="target")
    _, hidden, cell = layers.LSTM(10, return_state=True)(source)
    decoded = layers.LSTM(10, return_sequences=True)(target, initial_state=[hidden, cell])
    return keras.Model(
        [source, target], layers.Dense(5, activation="softmax", name="next")(decoded)
    )


def go_backwards() -> Any:
    """GRUs that read from the end, with and without reset_after, and dropout that inference ignores."""
    signal = keras.Input((12, 4), name="signal")
    x = layers.GRU(6, go_backwards=True, return_sequences=True, recurrent_dropout=0.2)(signal)
    return keras.Model(signal, layers.GRU(5, reset_after=False, dropout=0.1, name="summary")(x))


def stateful_lstm() -> Any:
    """An LSTM that keeps its state between calls: an answer depends on the calls before it."""
    signal = keras.Input(batch_shape=(1, 10, 3), name="signal")
    x = layers.LSTM(6, stateful=True)(signal)
    return keras.Model(signal, layers.Dense(2, name="state")(x))


def conv_lstm(rank: int) -> Any:
    """ConvLSTM over a short film (2) or a bundle of signals (1)."""
    film = keras.Input((5, *[12] * rank, 2), name="film")
    layer = {1: layers.ConvLSTM1D, 2: layers.ConvLSTM2D}[rank]
    x = layer(4, 3, padding="same", return_sequences=True)(film)
    x = layer(3, 3)(x)
    return keras.Model(film, layers.Flatten(name="motion")(x))


def time_distributed() -> Any:
    """A small CNN on each frame, an LSTM over frames."""
    film = keras.Input((6, 24, 24, 3), name="film")
    x = layers.TimeDistributed(layers.Conv2D(8, 3, strides=2, activation="relu"))(film)
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)
    return keras.Model(film, layers.Dense(4, name="action")(layers.LSTM(8)(x)))


def crnn() -> Any:
    """Text recognition: convolutions, columns as time, two Bi-LSTMs, class scores at each step."""
    image = keras.Input((32, 96, 1), name="line")
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D((4, 2))(x)
    x = layers.BatchNormalization()(layers.Conv2D(24, 3, padding="same")(x))
    x = layers.MaxPooling2D((4, 2))(x)
    x = layers.Reshape((24, 2 * 24))(layers.Permute((2, 1, 3))(x))
    for _ in range(2):
        x = layers.Bidirectional(layers.LSTM(16, return_sequences=True))(x)
    return keras.Model(image, layers.Dense(40, activation="softmax", name="letters")(x))


def masked_text(layer: str, return_sequences: bool) -> Any:
    """Word numbers, 0 is padding: Embedding with mask_zero into a recurrent layer; a label a text, or a word."""
    words = keras.Input((None,), dtype="int32", name="words")
    x = layers.Embedding(50, 8, mask_zero=True)(words)
    x = layers.Bidirectional(getattr(layers, layer)(6, return_sequences=return_sequences))(x)
    return keras.Model(words, layers.Dense(2, activation="softmax", name="mood")(x))


def masked_signal() -> Any:
    """A Masking layer, an LSTM that returns sequences, average over what is not masked."""
    signal = keras.Input((18, 3), name="signal")
    x = layers.Masking(mask_value=0.0)(layers.ReLU(threshold=0.7)(signal))
    x = layers.LSTM(8, return_sequences=True)(x)
    return keras.Model(signal, layers.GlobalAveragePooling1D(name="mean")(x))


def text_cnn() -> Any:
    """Three widths of convolution over word vectors, free length; the strongest and the mean of each."""
    words = keras.Input((None,), dtype="int32", name="words")
    x = layers.Embedding(100, 16)(words)
    widths = [layers.Conv1D(8, k, activation="relu")(x) for k in (2, 3, 4)]
    pools = (layers.GlobalMaxPooling1D, layers.GlobalAveragePooling1D)
    pooled = [pool()(y) for y in widths for pool in pools]
    return keras.Model(words, layers.Dense(4, name="topic")(layers.Concatenate()(pooled)))


def attention(layer: str, **arguments: Any) -> Any:
    """One of Keras' attention layers between two sequences."""
    query, value = keras.Input((10, 16), name="query"), keras.Input((14, 16), name="value")
    x = getattr(layers, layer)(**arguments)([query, value])
    return keras.Model([query, value], layers.Dense(4, name="answer")(x))


def multi_head(layer: str, causal: bool, **arguments: Any) -> Any:
    """A transformer block of free length around MultiHeadAttention or GroupQueryAttention."""
    tokens = keras.Input((None, 32), name="tokens")
    x = layers.LayerNormalization()(tokens)
    x = getattr(layers, layer)(**arguments)(x, x, use_causal_mask=causal)
    x = layers.Add()([tokens, x])
    y = layers.Dense(64, activation="gelu")(layers.LayerNormalization()(x))
    return keras.Model(tokens, layers.Add(name="block")([x, layers.Dense(32)(y)]))


def masked_transformer() -> Any:
    """Word numbers with padding through a MultiHeadAttention that gets the Embedding's mask."""
    words = keras.Input((24,), dtype="int32", name="words")
    x = layers.Embedding(60, 32, mask_zero=True)(words)
    x = layers.MultiHeadAttention(4, 8)(x, x)
    return keras.Model(words, layers.Dense(3, name="intent")(layers.Reshape((24 * 32,))(x)))


def mel_spectrogram() -> Any:
    """A keyword spotter's front end inside the model: sound to mel spectrogram to CNN."""
    sound = keras.Input((4000,), name="sound")
    x = layers.MelSpectrogram(
        fft_length=256, sequence_stride=128, sampling_rate=8000, num_mel_bins=24, max_freq=4000
    )(sound)
    x = layers.Reshape((24, -1, 1))(x)
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(layers.Rescaling(0.02)(x))
    return keras.Model(sound, layers.Dense(6, name="word")(layers.GlobalAveragePooling2D()(x)))


def stft_spectrogram() -> Any:
    """Keras' STFTSpectrogram: a short-time Fourier transform as a convolution."""
    sound = keras.Input((2000, 1), name="sound")
    x = layers.STFTSpectrogram(mode="log", frame_length=200, frame_step=100, fft_length=256)(sound)
    return keras.Model(sound, layers.Dense(3, name="pitch")(x))


def fft_magnitude() -> Any:
    """keras.ops.stft and rfft in the graph: RFFT as TensorFlow has it."""
    sound = keras.Input((1024,), name="sound")
    real, imaginary = keras.ops.stft(sound, 128, 64, 128)
    power = keras.ops.square(real) + keras.ops.square(imaginary)
    whole, _ = keras.ops.rfft(sound)
    return keras.Model(sound, [keras.ops.log(power + 1e-3), whole])
