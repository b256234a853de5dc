"""Sizes of the tiny transformers models that tests build."""

from __future__ import annotations

TINY = {
    "encoder_feedforward_dim": 16,
    "dim_feedforward": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 2,
    "num_queries": 5,
}


def tiny_swin():
    """The configuration of a Swin backbone for photos of 64 pixels."""
    from transformers import SwinConfig

    stages = {"depths": [1] * 4, "num_heads": [1] * 4, "out_features": [f"stage{i}" for i in range(1, 5)]}
    return SwinConfig(image_size=64, embed_dim=8, window_size=4, **stages)
