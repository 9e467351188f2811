"""Two million strings: the ids, and the bytes they decode to, of tiktoken and tokenizers."""

import random

import pytest

from benchmarks import corpora
from benchmarks.tokenizer import differences, tiktoken_of, tokenizers_of

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def three(gpt2_tokenizer):
    return gpt2_tokenizer, tiktoken_of(gpt2_tokenizer), tokenizers_of(gpt2_tokenizer)


def test_real_text_every_character_and_what_was_made_to_be_hard(three):
    found = corpora.strings()
    for name, strings in found.items():
        assert not +differences(strings, *three), name
    assert sum(map(len, found.values())) > 2_000_000
    assert len(found["languages"]) > 50_000


def test_any_ids_decode_to_the_same_bytes_and_the_same_text(three):
    ours, tik, tok = three
    rng = random.Random(0)
    for _ in range(100_000):
        ids = [rng.randrange(50256) for _ in range(rng.randrange(12))]
        assert b"".join(map(ours.token_bytes, ids)) == tik.decode_bytes(ids)
        assert ours.decode(ids) == tok.decode(ids) == tik.decode(ids)
