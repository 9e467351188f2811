"""Tokenizer files of OpenAI's and Hugging Face's layouts -> `Tokenizer`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .added_tokens import AddedToken
from .errors import TokenizerError
from .files import REMEDY, as_object, read_object, read_text
from .messages import quoted, shown
from .tokenizer import END_OF_TEXT, Tokenizer

PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
WHOLE = "tokenizer.json"
ADDED = "added_tokens.json"
CONFIG = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"

# What the tokenizer files may say of how a text becomes ids, and what we do: the first is what a
# missing option means. Anything else is refused by name.
CONFIG_VALUES: dict[str, tuple[Any, ...]] = {
    "add_prefix_space": (False, None),
    "add_bos_token": (False, None),
    "add_eos_token": (False, None),
    "tokenizer_class": (
        None,
        "GPT2Tokenizer",
        "GPT2TokenizerFast",
        "PreTrainedTokenizerFast",
        "TokenizersBackend",
    ),
}
MODEL_VALUES: dict[str, tuple[Any, ...]] = {
    "type": ("BPE", None),
    "dropout": (None, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (False,),
    "ignore_merges": (False,),
}
BYTE_LEVEL = {"type": ("ByteLevel",), "add_prefix_space": (False,), "use_regex": (True,)}
ADDED_FLAGS = {
    "single_word": (False,),
    "lstrip": (False,),
    "rstrip": (False,),
    "special": (False, True),
    "normalized": (False, True),
}


def missing_tokenizer_files(directory: Path) -> list[str]:
    """The files that the directory lacks; of several ways, the one that lacks the fewest."""
    lacks = [[n for n in names if not (directory / n).is_file()] for names in (*PAIRS, (WHOLE,))]
    return [] if [] in lacks else min(lacks[: len(PAIRS)], key=len)


def read_tokenizer(
    directory: Path, eos_id: int | None = None, n_vocab: int | None = None
) -> Tokenizer:
    """The tokenizer of a model directory.

    Parameters
    ----------
    directory : Path
        Holds `tokenizer.json`, which transformers reads first too; or `vocab.json` and
        `merges.txt`, or `encoder.json` and `vocab.bpe`. What other files say of added tokens
        counts with either.
    eos_id : int, optional
        The token that ends a text, as the model's configuration says; where no token has that id
        it is `<|endoftext|>`.
    n_vocab : int, optional
        Embeddings of the model. A special token beyond them, such as one that was added for
        padding in training, is left out.

    Raises
    ------
    TokenizerError
        Where a file is missing, is not what its name says, does not belong to the others, or asks
        for what is not implemented.
    """
    config = directory / CONFIG
    settings = _read_optional(config)
    _check(config, "", settings, CONFIG_VALUES)
    if os.path.lexists(directory / WHOLE):
        vocab, merges, added = _read_whole(directory / WHOLE)
        added = _read_added(directory, settings, added)
    else:
        lacks_least = min(
            PAIRS, key=lambda names: sum(not (directory / n).is_file() for n in names)
        )
        vocab, merges = _read_pair(*(directory / name for name in lacks_least))
        added = _read_added(directory, settings)
    added = [t for t in added if n_vocab is None or t.token_id < n_vocab or not t.special]
    if eos_id not in {*vocab.values(), *(token.token_id for token in added)}:
        eos_id = None
    begins = _begins(directory, settings)
    ids = vocab | {token.content: token.token_id for token in added}
    try:
        return Tokenizer(vocab, merges, added, eos_id, ids.get(begins) if begins else None)
    except TokenizerError as e:
        raise TokenizerError(f"{directory}: {e}") from None


def load_tokenizer(vocab_path: Path, merges_path: Path) -> Tokenizer:
    """Read a vocabulary (`vocab.json`, `encoder.json`) and its merges (`merges.txt`, `vocab.bpe`).

    Raises
    ------
    TokenizerError
        Where a file is missing, is not what its name says, or the two do not belong together.
    """
    try:
        return Tokenizer(*_read_pair(vocab_path, merges_path))
    except TokenizerError as e:
        raise TokenizerError(f"{vocab_path.parent}: {e}") from None


def _read_whole(path: Path) -> tuple[dict[str, int], list[tuple[str, str]], list[AddedToken]]:
    """`tokenizer.json` of the `tokenizers` package."""
    found = read_object(path, TokenizerError)
    model = as_object(found.get("model"), f"{path}: model", TokenizerError)
    _check(path, "model.", model, MODEL_VALUES)
    _check(path, "", found, {"version": ("1.0",), "normalizer": (None,)})
    before = as_object(found.get("pre_tokenizer"), f"{path}: pre_tokenizer", TokenizerError)
    _check(path, "pre_tokenizer.", before, BYTE_LEVEL)
    after = found.get("post_processor")
    if after is not None and not _adds_nothing(
        as_object(after, f"{path}: post_processor", TokenizerError)
    ):
        raise _not_implemented(path, "post_processor", after, (None,))
    # `truncation` and `padding` are a caller's settings, which transformers sets for each call.
    vocab = _vocab(path, model.get("vocab"))
    merges = []
    for rank, pair in enumerate(_list(path, "merges", model.get("merges")), start=1):
        parts = pair.split(" ") if isinstance(pair, str) else pair
        if not isinstance(parts, list) or [*map(type, parts)] != [str, str]:
            raise TokenizerError(
                f"{path}: merge {rank} is {quoted(pair)}; expected two tokens. {REMEDY}"
            )
        merges.append((parts[0], parts[1]))
    added: dict[str, AddedToken] = {}
    following = len(vocab)  # the id that the `tokenizers` package gives the next new one
    for entry in _list(path, "added_tokens", found.get("added_tokens", [])):
        flags = as_object(entry, f"{path}: an added token", TokenizerError)
        token = _added_token(path, flags.get("content"), flags.get("id"), flags)
        expected = vocab.get(token.content, following)  # whatever the file says
        if token.token_id != expected or token.content in added:
            raise TokenizerError(
                f"{path}: added token {shown(token.content)} has id {token.token_id}; expected "
                f"{expected}, and each once. {REMEDY}"
            )
        added[token.content] = token
        following = max(following, token.token_id + 1)
    return vocab, merges, [*added.values()]


def _adds_nothing(post_processor: Mapping[str, Any]) -> bool:
    """Whether a post-processor leaves a text's tokens as they are."""
    if post_processor.get("type") == "TemplateProcessing":
        pieces = post_processor.get("single")
        return isinstance(pieces, list) and [isinstance(p, dict) and [*p] for p in pieces] == [
            ["Sequence"]
        ]
    return post_processor.get("type") == "ByteLevel"


def _read_added(
    directory: Path, settings: Mapping[str, Any], known: Sequence[AddedToken] = ()
) -> list[AddedToken]:
    """Tokens of `added_tokens.json` and of `tokenizer_config.json`, special where one says so.

    Of a token that is `known` from `tokenizer.json`, the second has the last word, as in
    transformers; the first tells no more than its id.
    """
    path, config = directory / ADDED, directory / CONFIG
    where = f"{config}: added_tokens_decoder"
    decoder = as_object(settings.get("added_tokens_decoder") or {}, where, TokenizerError)
    found = {token.content: token for token in known}
    for token_id, entry in decoder.items():
        flags = as_object(entry, where, TokenizerError)
        number = int(token_id) if token_id.isdecimal() and len(token_id) < 12 else token_id
        token = _added_token(config, flags.get("content"), number, flags)
        if found.get(token.content, token).token_id != token.token_id:
            raise TokenizerError(
                f"{config}: added token {shown(token.content)} has id {shown(token_id)}, and "
                f"another in {WHOLE if known else CONFIG}. {REMEDY}"
            )
        found[token.content] = token
    special = _special(settings) | _special(_read_optional(directory / SPECIAL))
    for content, token_id in _read_optional(path).items():
        flags = {"special": content in special, "normalized": content not in special}
        token = _added_token(path, content, token_id, flags)
        if found.setdefault(content, token).token_id != token_id:
            raise TokenizerError(
                f"{path}: added token {shown(content)} has id {token_id}, and another in "
                f"{WHOLE if known else CONFIG}. {REMEDY}"
            )
    return list(found.values())


def _begins(directory: Path, settings: Mapping[str, Any]) -> str | None:
    """The text of the token that stands before others, found as transformers does."""
    own = {} if settings.get("added_tokens_decoder") else _read_optional(directory / SPECIAL)
    token = ({"bos_token": END_OF_TEXT, **settings} | own)["bos_token"]
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _special(settings: Mapping[str, Any]) -> set[str]:
    """The texts of the tokens that `pad_token` and its like name."""
    texts = set()
    for key, value in settings.items():
        if key.endswith(("_token", "_special_tokens")):
            for token in value if isinstance(value, list) else [value]:
                text = token.get("content") if isinstance(token, dict) else token
                if isinstance(text, str):
                    texts.add(text)
    return texts


def _read_optional(path: Path) -> dict[str, Any]:
    # A link that leads nowhere is not an absent file: what it should hold is missing.
    return read_object(path, TokenizerError) if os.path.lexists(path) else {}


def _added_token(path: Path, content: Any, token_id: Any, flags: Mapping[str, Any]) -> AddedToken:
    if (
        not isinstance(content, str)
        or not content
        or any(0xD800 <= ord(letter) <= 0xDFFF for letter in content)
        or type(token_id) is not int
        or token_id < 0
    ):
        raise TokenizerError(
            f"{path}: an added token {shown(content)} has id {shown(token_id)}; expected a text "
            f"and a number, 0 or more. {REMEDY}"
        )
    _check(path, f"of {shown(content)}, ", flags, ADDED_FLAGS)
    special = flags.get("special", False)
    return AddedToken(content, token_id, special, flags.get("normalized", not special))


def _read_pair(vocab_path: Path, merges_path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges; a vocabulary of more than bytes needs some."""
    vocab = _vocab(vocab_path, read_object(vocab_path, TokenizerError))
    merges = _read_merges(merges_path)
    if not merges and any(len(token) > 1 and token != END_OF_TEXT for token in vocab):
        raise TokenizerError(
            f"{merges_path}: holds no merges; expected those that belong to {vocab_path.name}. "
            f"{REMEDY}"
        )
    return vocab, merges


def _read_merges(path: Path) -> list[tuple[str, str]]:
    merges = []
    lines = read_text(path, TokenizerError).replace("\r", "").split("\n")
    for number, line in enumerate(lines, start=1):
        if (number == 1 and line.startswith("#version")) or not line:
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise TokenizerError(
                f"{path}:{number}: found {len(pair)} parts; expected two tokens and one space. "
                f"{REMEDY}"
            )
        merges.append((pair[0], pair[1]))
    return merges


def _vocab(path: Path, found: Any) -> dict[str, int]:
    vocab = as_object(found, f"{path}: vocab", TokenizerError)
    if not all(type(token_id) is int and token_id >= 0 for token_id in vocab.values()):
        raise TokenizerError(
            f"{path}: expected an object that gives each token an id, 0 or more. {REMEDY}"
        )
    return vocab


def _list(path: Path, name: str, found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise TokenizerError(f"{path}: {name} is {quoted(found)}; expected a list. {REMEDY}")
    return found


def _check(
    path: Path,
    prefix: str,
    found: Mapping[str, Any],
    implemented: Mapping[str, Sequence[Any]],
) -> None:
    """Refuse a value that is not implemented, by the name of its option."""
    for option, values in implemented.items():
        value = found.get(option, values[0])
        if not any(value == known and type(value) is type(known) for known in values):
            raise _not_implemented(path, f"{prefix}{option}", value, values)


def _not_implemented(path: Path, option: str, value: Any, values: Sequence[Any]) -> TokenizerError:
    return TokenizerError(
        f"{path}: {option} is {quoted(value)}, which is not implemented; expected "
        f"{' or '.join(map(repr, values))}. Use a model with GPT-2's tokenizer."
    )
