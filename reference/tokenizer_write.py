"""`Tokenizer` -> the files that other programs read, in each form that one of them asks for."""

import json
from pathlib import Path
from typing import Any

from .added_tokens import AddedToken
from .tokenizer import END_OF_TEXT, Tokenizer
from .tokenizer_files import ADDED, CONFIG, WHOLE


def write_tokenizer(tokenizer: Tokenizer, directory: Path, n_ctx: int | None = None) -> None:
    """Write `vocab.json` and `merges.txt`, `tokenizer.json` and `tokenizer_config.json`.

    Read back they give the same tokenizer. Where added tokens have ids that the `tokenizers`
    package would not give them there is no `tokenizer.json`, but `added_tokens.json`.

    Parameters
    ----------
    tokenizer : Tokenizer
        Byte-level BPE.
    directory : Path
        Must be there.
    n_ctx : int, optional
        Tokens that the model can look at.
    """
    merges = [f"{left} {right}" for left, right in tokenizer.merges]
    (directory / "merges.txt").write_text(
        "".join(f"{line}\n" for line in ("#version: 0.2", *merges)), encoding="utf-8"
    )
    _write_json(directory / "vocab.json", tokenizer.vocab)
    added = list(tokenizer.added.values())
    texts = {i: text for text, i in tokenizer.vocab.items()} | {
        t.token_id: t.content for t in added
    }
    config: dict[str, Any] = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,  # else "did n't" comes back as "didn't"
    }
    if tokenizer.eos_id in texts:
        end = texts[tokenizer.eos_id]
        config |= dict.fromkeys(["bos_token", "eos_token", "unk_token", "pad_token"], end)
    if tokenizer.bos_id in texts:
        config["bos_token"] = texts[tokenizer.bos_id]
    if n_ctx is not None:
        config["model_max_length"] = n_ctx
    config["added_tokens_decoder"] = {str(t.token_id): _flags(t) for t in added}
    _write_json(directory / CONFIG, config)
    if _ids_follow(tokenizer):
        _write_json(directory / WHOLE, _whole(tokenizer, merges))
    else:
        default = AddedToken(END_OF_TEXT, tokenizer.vocab.get(END_OF_TEXT, -1), special=True)
        ids = {token.content: token.token_id for token in added if token != default}
        _write_json(directory / ADDED, ids)


def _ids_follow(tokenizer: Tokenizer) -> bool:
    """Whether each added token has the id that it would get."""
    last = len(tokenizer.vocab) - 1
    for token in sorted(tokenizer.added.values(), key=lambda t: t.token_id):
        if token.token_id != tokenizer.vocab.get(token.content, last + 1):
            return False
        last = max(last, token.token_id)
    return True


def _whole(tokenizer: Tokenizer, merges: list[str]) -> dict[str, Any]:
    """The content of `tokenizer.json`."""
    bytes_of_text = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    added = sorted(tokenizer.added.values(), key=lambda token: token.token_id)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token.token_id, **_flags(token)} for token in added],
        "normalizer": None,
        "pre_tokenizer": {**bytes_of_text, "use_regex": True},
        "post_processor": {**bytes_of_text, "trim_offsets": False, "use_regex": True},
        "decoder": {**bytes_of_text, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": dict(tokenizer.vocab),
            "merges": merges,
        },
    }


def _flags(token: AddedToken) -> dict[str, Any]:
    return {
        "content": token.content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": token.normalized,
        "special": token.special,
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
