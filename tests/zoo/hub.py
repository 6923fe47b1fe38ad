"""KerasHub backbones in sizes that fit a test; random weights. Only this module needs keras-hub."""

from __future__ import annotations

from typing import Any

from keras_hub import models

_TEXT = {"vocabulary_size": 200, "num_layers": 2, "num_heads": 4, "hidden_dim": 32}


def text(backbone: str, **arguments: Any) -> Any:
    """A text backbone of two layers, by its class's name."""
    return getattr(models, backbone)(**{**_TEXT, "intermediate_dim": 64, **arguments})


def image(backbone: str, **arguments: Any) -> Any:
    """An image backbone, by its class's name."""
    shape = tuple(arguments.pop("image_shape"))
    return getattr(models, backbone)(image_shape=shape, **arguments)


def mit() -> Any:
    """MiT, SegFormer's encoder, of four stages."""
    return models.MiTBackbone(
        layerwise_depths=[1, 1, 1, 1],
        num_layers=4,
        layerwise_num_heads=[1, 2, 2, 4],
        layerwise_sr_ratios=[8, 4, 2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        hidden_dims=[8, 16, 24, 32],
        image_shape=(64, 64, 3),
    )


def segformer() -> Any:
    """SegFormer: MiT and its all-MLP decoder."""
    return models.SegFormerBackbone(image_encoder=mit(), projection_filters=32)


def whisper() -> Any:
    """Whisper: mel frames and text tokens in, both encoded."""
    return models.WhisperBackbone(
        **_TEXT,
        intermediate_dim=64,
        max_encoder_sequence_length=128,
        max_decoder_sequence_length=64,
    )


def mobilenet() -> Any:
    """MobileNetV3's blocks as KerasHub builds them."""
    return models.MobileNetBackbone(
        stackwise_expansion=[[40, 56], [64, 144, 144]],
        stackwise_num_blocks=[2, 3],
        stackwise_num_filters=[[16, 16], [24, 24, 24]],
        stackwise_kernel_size=[[3, 3], [5, 5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25, 0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish", "hard_swish"]],
        stackwise_padding=[[1, 1], [2, 2, 2]],
        output_num_filters=64,
        input_activation="hard_swish",
        output_activation="hard_swish",
        input_num_filters=16,
        image_shape=(64, 64, 3),
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=64,
        squeeze_and_excite=0.5,
    )


def llama() -> Any:
    """LLaMA: rotary positions, grouped queries, RMS norms, a gated MLP."""
    return models.LlamaBackbone(
        vocabulary_size=200,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
    )
