"""Architectures of models of `transformers` as the JSON that parts take in place of a pretrained model."""

from __future__ import annotations

import json

from wamkit.errors import ConfigError


def llama_architecture(width: int = 128, layers: int = 3, heads: int = 4, vocabulary: int = 64) -> str:
    """Architecture of a small Llama with random weights, for the field ``architecture`` of ``vlm_expert``.

    Args:
        width: features per token.
        layers: number of layers.
        heads: number of attention heads, which divides ``width`` into heads of an even size.
        vocabulary: number of tokens of its text.

    Raises:
        ConfigError: ``heads`` does not divide ``width`` into heads of an even size.
    """
    if width % heads or (width // heads) % 2:
        raise ConfigError(
            f"llama_architecture: {heads} heads do not divide width {width} into heads of an even size, as rotary "
            f"positions need. Choose a width that is a multiple of {2 * heads}."
        )
    facts = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": width // heads,
        "vocab_size": vocabulary,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return json.dumps({"config": facts})
