"""Models of `transformers` and `diffusers` that are tiny, random and written to a folder: no downloads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ("push", "pull", "it", "pick", "the", "red", "blue", "block", "open", "drawer")
SPECIAL = ("<pad>", "<unk>", "<image>", "<bos>", "<eos>")
NORMALISATION = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}


def tokenizer() -> object:
    """A word-level tokenizer of sixteen pieces."""
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    base = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    base.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=base,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=["<image>"],
    )


def clip(folder: Path) -> None:
    """A text half and a picture half."""
    half = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"bos_token_id": 3, "eos_token_id": 4, "pad_token_id": 0}
    config = transformers.CLIPConfig(
        text_config={**half, **special, "vocab_size": 16, "max_position_embeddings": 40},
        vision_config={**half, "image_size": 16, "patch_size": 4},
        projection_dim=16,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(NORMALISATION))


def text_model(folder: Path, family: str = "bert") -> Path:
    """An encoder (bert), a decoder (gpt2) or the encoder half of both (t5)."""
    torch.manual_seed(3)
    if family == "bert":
        model = transformers.BertModel(
            transformers.BertConfig(
                vocab_size=16,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=40,
            )
        )
    elif family == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=16, n_embd=16, n_layer=2, n_head=2, n_positions=40, bos_token_id=3, eos_token_id=4
        )
        model = transformers.GPT2Model(config)
    elif family == "clip":
        clip(folder)
        tokenizer().save_pretrained(folder)  # type: ignore[attr-defined]
        return folder
    else:
        config = transformers.T5Config(
            vocab_size=16, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0
        )
        model = transformers.T5Model(config)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)  # type: ignore[attr-defined]
    return folder


def vision_model(folder: Path, family: str = "dinov2", seed: int = 4) -> Path:
    """DINOv2, DINOv3, the picture half of SigLIP, V-JEPA 2 or a ResNet, at 16 pixels."""
    torch.manual_seed(seed)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    if family == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(image_size=16, patch_size=4, **size))
    elif family == "dinov3":
        config = transformers.DINOv3ViTConfig(
            image_size=16, patch_size=4, intermediate_size=32, num_register_tokens=2, **size
        )
        model = transformers.DINOv3ViTModel(config)
    elif family == "siglip":
        half = {**size, "intermediate_size": 32}
        config = transformers.SiglipConfig(
            text_config={
                **half,
                "vocab_size": 16,
                "projection_size": 16,
                "bos_token_id": 3,
                "eos_token_id": 4,
                "pad_token_id": 0,
            },
            vision_config={**half, "image_size": 16, "patch_size": 4},
        )
        model = transformers.SiglipModel(config)
    elif family == "vjepa2":
        config = transformers.VJEPA2Config(
            patch_size=4,
            crop_size=16,
            frames_per_clip=2,
            mlp_ratio=2.0,
            pred_hidden_size=16,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
            **size,
        )
        model = transformers.VJEPA2Model(config)
    else:
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
        )
        model = transformers.ResNetModel(config)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(NORMALISATION))
    return folder


def vision_language_model(folder: Path, family: str = "paligemma") -> Path:
    """PaliGemma, LLaVA or Idefics3 at 16 pixels with two layers, and its processor."""
    torch.manual_seed(5)
    half = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
    }
    if family == "llava":
        return llava(folder, {**half, "num_hidden_layers": 2})
    if family == "idefics3":
        return idefics3(folder, {**half, "num_hidden_layers": 2})
    config = transformers.PaliGemmaConfig(
        vision_config={
            **half,
            "model_type": "siglip_vision_model",
            "num_hidden_layers": 1,
            "image_size": 16,
            "patch_size": 8,
            "projection_dim": 32,
        },
        text_config={
            **half,
            "model_type": "gemma",
            "vocab_size": 16,
            "num_hidden_layers": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "pad_token_id": 0,
            "bos_token_id": 3,
            "eos_token_id": 4,
        },
        projection_dim=32,
        image_token_index=2,
        pad_token_id=0,
        bos_token_id=3,
        eos_token_id=4,
    )
    transformers.PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
    pictures = transformers.SiglipImageProcessorPil(size={"height": 16, "width": 16})
    pictures.image_seq_length = 4
    transformers.PaliGemmaProcessor(pictures, tokenizer()).save_pretrained(folder)
    return folder


SPECIAL_IDS = {"pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 4}


def llava(folder: Path, half: dict[str, int]) -> Path:
    """A picture half like CLIP's before a language half like LLaMA's."""
    config = transformers.LlavaConfig(
        vision_config={
            **half,
            "model_type": "clip_vision_model",
            "image_size": 16,
            "patch_size": 8,
            "projection_dim": 32,
        },
        text_config={
            **half,
            **SPECIAL_IDS,
            "model_type": "llama",
            "vocab_size": 16,
            "num_key_value_heads": 2,
        },
        image_token_index=2,
        vision_feature_layer=-1,
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    pictures = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )
    transformers.LlavaProcessor(
        pictures,
        tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def idefics3(folder: Path, half: dict[str, int]) -> Path:
    """Four patches are shuffled into one token, framed by two others."""
    config = transformers.Idefics3Config(
        vision_config={**half, "image_size": 16, "patch_size": 8},
        text_config={
            **half,
            **SPECIAL_IDS,
            "model_type": "llama",
            "vocab_size": 24,
            "num_key_value_heads": 2,
        },
        image_token_id=2,
        scale_factor=2,
        pad_token_id=0,
    )
    transformers.Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    words = tokenizer()
    frame = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    words.add_special_tokens({"additional_special_tokens": frame})  # type: ignore[attr-defined]
    pictures = transformers.Idefics3ImageProcessorPil(
        do_image_splitting=False, size={"longest_edge": 16}, max_image_size={"longest_edge": 16}
    )
    transformers.Idefics3Processor(pictures, words, image_seq_len=1).save_pretrained(folder)
    return folder
