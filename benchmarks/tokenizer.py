"""Our tokenizer beside tiktoken and tokenizers: the same ids, and how fast, on one thread.

    python -m benchmarks.tokenizer VOCABULARY

`VOCABULARY` holds GPT-2's `encoder.json` and `vocab.bpe`. A first pass meets every word for the
first time, a second one finds them all in the cache. A text is encoded whole, and again line by
line, as a job's prompts are.
"""

import argparse
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread each

import regex
import tiktoken
import tokenizers
from tiktoken_ext.openai_public import r50k_pat_str

from benchmarks import corpora
from reference import Tokenizer, load_tokenizer
from reference.tokenizer import END_OF_TEXT, WORD

ROUNDS = 3


def tiktoken_of(tokenizer: Tokenizer) -> tiktoken.Encoding:
    """The same vocabulary in tiktoken, with its own pattern."""
    eos_id = tokenizer.added[END_OF_TEXT].token_id
    ranks = {tokenizer.token_bytes(i): i for i in range(len(tokenizer)) if i != eos_id}
    return tiktoken.Encoding(
        "gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: eos_id}
    )


def tokenizers_of(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The same vocabulary in tokenizers."""
    found = tokenizers.Tokenizer(tokenizers.models.BPE(tokenizer.vocab, tokenizer.merges))
    found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = tokenizers.decoders.ByteLevel()
    return found


def differences(
    strings: list[str], ours: Tokenizer, tik: tiktoken.Encoding, tok: tokenizers.Tokenizer
) -> Counter[str]:
    """How many strings differ, in ids and in what these decode to."""
    count: Counter[str] = Counter()
    for start in range(0, len(strings), 10_000):
        some = strings[start : start + 10_000]
        for text, encoding in zip(some, tok.encode_batch(some), strict=True):
            ids = ours.encode(text)
            count["ids, tiktoken"] += ids != tik.encode_ordinary(text)
            count["ids, tokenizers"] += ids != encoding.ids
            raw = b"".join(map(ours.token_bytes, ids))
            count["bytes, tiktoken"] += raw != tik.decode_bytes(ids)
            count["bytes, the text's"] += raw != text.encode()
            count["text, tokenizers"] += ours.decode(ids) != tok.decode(ids)
    return count


def rate(encode: Callable[[str], Any], texts: list[str], n_bytes: int) -> float:
    """Megabytes per second of one pass over texts."""
    start_s = time.perf_counter()
    for text in texts:
        encode(text)
    return n_bytes / 1e6 / (time.perf_counter() - start_s)


def measure(
    text: str, fresh: Callable[[], Tokenizer], tik: tiktoken.Encoding, tok: tokenizers.Tokenizer
) -> dict[str, float]:
    """Medians over rounds in which all take their turn."""
    n_bytes, lines = len(text.encode()), text.splitlines(True)
    rounds = []
    for _ in range(ROUNDS):
        whole, by_line = fresh(), fresh()
        passes: dict[str, tuple[Callable[[str], Any], list[str]]] = {
            "first": (whole.encode, [text]),
            "second": (whole.encode, [text]),
            "tiktoken": (tik.encode_ordinary, [text]),
            "tokenizers": (tok.encode, [text]),
            "lines, first": (by_line.encode, lines),
            "lines, second": (by_line.encode, lines),
            "lines, tiktoken": (tik.encode_ordinary, lines),
            "lines, tokenizers": (tok.encode, lines),
            "words only": (WORD.findall, [text]),
        }
        rounds.append(
            {name: rate(encode, some, n_bytes) for name, (encode, some) in passes.items()}
        )
    return {key: round(median(found[key] for found in rounds), 2) for key in rounds[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vocabulary", type=Path)
    parser.add_argument("--megabytes", type=float, default=8, help="of each corpus")
    parser.add_argument("--verify", action="store_true", help="compare all strings first")
    args = parser.parse_args()

    def fresh() -> Tokenizer:
        return load_tokenizer(args.vocabulary / "encoder.json", args.vocabulary / "vocab.bpe")

    ours = fresh()
    tik, tok = tiktoken_of(ours), tokenizers_of(ours)
    report: dict[str, Any] = {}
    if args.verify:
        print(f"{'strings':12} {'number':>10} {'bytes':>12}  differences")
        total = 0
        for name, some in corpora.strings().items():
            count = differences(some, ours, tik, tok)
            total += len(some)
            n_bytes = sum(len(text.encode()) for text in some)
            print(f"{name:12} {len(some):10,} {n_bytes:12,}  {dict(count)}", flush=True)
            report[f"differences, {name}"] = sum(count.values())
        print(f"{'all':12} {total:10,}")
    print(f"\n{'MB/s':20} {'first':>7} {'second':>7} {'tiktoken':>9} {'tokenizers':>11}  ratio")
    for name, make in corpora.TEXTS.items():
        text = make().encode()[: int(args.megabytes * 1e6)].decode(errors="ignore")
        found = measure(text, fresh, tik, tok)
        for title, how in ((name, ""), (f"{name} by line", "lines, ")):
            first, second, *others = (
                found[how + who] for who in ("first", "second", "tiktoken", "tokenizers")
            )
            print(
                f"{title:20} {first:7} {second:7} {others[0]:9} {others[1]:11} "
                f"{others[0] / first:6.2f}",
                flush=True,
            )
        report[name] = found
    versions = {
        "python": platform.python_version(),
        "regex": regex.__version__,
        "tiktoken": tiktoken.__version__,
        "tokenizers": tokenizers.__version__,
    }
    print(json.dumps({**report, "versions": versions, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
