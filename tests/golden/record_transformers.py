"""Records what transformers' GPT-2 computes.

Run by hand, after `make oracle`: `.venv-oracle/bin/python tests/golden/record_transformers.py`.
The recording lets `make test` compare with an implementation that is not ours without installing
torch. `make oracle` computes it anew and compares with transformers itself.
"""

from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load

GOLDEN = Path(__file__).parent / "transformers.npz"
CONFIGS = {
    "small": {"vocab_size": 61, "n_positions": 96, "n_embd": 32, "n_head": 4, "n_layer": 2},
    "odd": {"vocab_size": 50, "n_positions": 80, "n_embd": 30, "n_head": 5, "n_layer": 3},
    "untied": {
        "vocab_size": 70,
        "n_positions": 80,
        "n_embd": 24,
        "n_head": 6,
        "n_layer": 6,
        "tie_word_embeddings": False,
    },
}
NEW_TOKENS = 64


def build(config, seed):
    """A GPT-2 of transformers with random weights that make no two tokens alike."""
    torch.manual_seed(seed)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**config, bos_token_id=0, eos_token_id=0)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.02 if name.endswith("bias") else 0.2
            parameter.add_(torch.randn_like(parameter) * spread)
    return model.eval()


def observe(model, config, seed):
    """Logits of two sequences, and greedy tokens after a prompt, in float32."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, config["vocab_size"], (2, 16))
    with torch.no_grad():
        logits = model(torch.tensor(ids)).logits.numpy()
        prompt = torch.tensor(ids[:1, :8])
        tokens = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[0, 8:].numpy()
    return {"ids": ids, "logits": logits, "tokens": tokens}


def weights(model, folder):
    model.save_pretrained(folder)
    return load((folder / "model.safetensors").read_bytes())


def record(folder):
    recorded = {}
    for seed, (name, config) in enumerate(CONFIGS.items()):
        model = build(config, seed)
        recorded |= {f"{name}/{k}": v for k, v in observe(model, config, seed).items()}
        recorded |= {f"{name}/weights/{k}": v for k, v in weights(model, folder).items()}
    return recorded


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(GOLDEN, **record(Path(folder)))
