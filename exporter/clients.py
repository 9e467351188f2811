"""Files beside the graphs, for programs that load them: Hugging Face's and onnxruntime-genai's."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reference import Model

from .variants import VARIANTS


def config(model: Model, dtypes: Sequence[str]) -> dict[str, Any]:
    """Hugging Face's `config.json`, which our own loader reads too.

    transformers.js finds there which format it takes by default, and how each keeps its past.
    """
    pasts = {VARIANTS[d].called: np.dtype(VARIANTS[d].past).name for d in dtypes}
    hparams, eos_id = model.hparams, model.tokenizer.eos_id
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": hparams["n_vocab"],
        "n_positions": hparams["n_ctx"],
        "n_ctx": hparams["n_ctx"],
        "n_embd": hparams["n_embd"],
        "n_head": hparams["n_head"],
        "n_layer": hparams["n_layer"],
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-05,
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
        "tie_word_embeddings": "lm_head" not in model.params,
        "use_cache": True,
        "transformers.js_config": {
            "use_external_data_format": True,
            "dtype": VARIANTS[dtypes[0]].called,
            "kv_cache_dtype": pasts,
        },
    }


def generation_config(model: Model) -> dict[str, Any]:
    """Hugging Face's `generation_config.json`: greedy, up to the end of the context."""
    eos_id = model.tokenizer.eos_id
    return {
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
        "pad_token_id": eos_id,
        "do_sample": False,
    }


def genai_config(model: Model, dtypes: Sequence[str]) -> dict[str, Any]:
    """onnxruntime-genai's `genai_config.json`."""
    hparams, eos_id = model.hparams, model.tokenizer.eos_id
    return {
        "model": {
            "type": "decoder",  # "gpt2" means another layout of the past
            "bos_token_id": eos_id,
            "eos_token_id": eos_id,
            "pad_token_id": eos_id,
            "vocab_size": hparams["n_vocab"],
            "context_length": hparams["n_ctx"],
            "decoder": {
                "session_options": {"provider_options": []},
                "filename": f"onnx/{VARIANTS[dtypes[0]].file('with_past')}",
                "head_size": hparams["n_embd"] // hparams["n_head"],
                "hidden_size": hparams["n_embd"],
                "num_attention_heads": hparams["n_head"],
                "num_key_value_heads": hparams["n_head"],
                "num_hidden_layers": hparams["n_layer"],
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "position_ids": "position_ids",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {
            "do_sample": False,
            "max_length": hparams["n_ctx"],
            "past_present_share_buffer": False,
        },
    }


def configurations(model: Model, dtypes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The content of each file by name.

    onnxruntime-genai needs a token that ends a text; it runs the first of the formats.
    """
    found = {
        "config.json": config(model, dtypes),
        "generation_config.json": generation_config(model),
    }
    if model.tokenizer.eos_id is not None:
        found["genai_config.json"] = genai_config(model, dtypes)
    return found
