"""Tokenizers, against tiktoken and tokenizers: two implementations that are not ours."""

import json

import pytest
import tiktoken
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext.openai_public import r50k_pat_str

from reference import Tokenizer, TokenizerError, WhitespaceTokenizer, load_tokenizer
from reference.tokenizer import END_OF_TEXT, byte_letters
from reference.unicode16 import is_unassigned

# GPT-2's published encodings.
ENCODINGS = {
    "Not all heroes wear capes.": [3673, 477, 10281, 5806, 1451, 274, 13],
    "The apple doesn't fall far from the": [464, 17180, 1595, 470, 2121, 1290, 422, 262],
    END_OF_TEXT: [27, 91, 437, 1659, 5239, 91, 29],
    "": [],
}

HARD = [
    "I'll we've they're 'tis it'S 'S 's",
    "  two  spaces\n\n\t tabs \r\n end   ",
    "1234567 1e10 ٣٤٥ ½ Ⅷ",
    "naïve café Ελληνικά русский العربية हिन्दी 日本語 한국어 👩‍👩‍👧‍👦 🏳️‍🌈",
    "\x00\x01\x7f\u0085\u00a0\u200b\u2028\u3000\ufeff",
    "def f(x):\n\treturn x**2  # ok\n",
    "a" * 300 + " " * 300 + "!" * 300,
    "\U0010ffff\U0001f9ff\ue000",
]


def oracles(tokenizer):
    """The same vocabulary in tiktoken and in tokenizers."""
    ranks = {tokenizer.token_bytes(i): i for i in range(len(tokenizer)) if i != tokenizer.eos_id}
    special = {END_OF_TEXT: tokenizer.eos_id}
    tik = tiktoken.Encoding(
        "t", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens=special
    )
    tok = tokenizers.Tokenizer(tokenizers.models.BPE(tokenizer.vocab, tokenizer.merges))
    tok.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tik.encode_ordinary, lambda text: tok.encode(text).ids


@pytest.mark.parametrize("text", ENCODINGS)
def test_published_encodings(gpt2_tokenizer, text):
    assert gpt2_tokenizer.encode(text) == ENCODINGS[text]
    assert gpt2_tokenizer.decode(ENCODINGS[text]) == text


def test_a_rare_word_is_spelled_out(gpt2_tokenizer):
    ids = gpt2_tokenizer.encode("zjqfl")
    assert [gpt2_tokenizer.decode([i]) for i in ids] == ["z", "j", "q", "fl"]
    assert gpt2_tokenizer.decode([5509]) == " tree"
    assert len(gpt2_tokenizer) == 50257


@pytest.mark.parametrize("which", ["demo", "gpt2"])
@pytest.mark.parametrize("text", HARD)
def test_the_same_ids_as_tiktoken_and_tokenizers(which, text, request):
    tokenizer = request.getfixturevalue("gpt2_tokenizer" if which == "gpt2" else "demo_tokenizer")
    for oracle in oracles(tokenizer):
        assert tokenizer.encode(text) == list(oracle(text))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.fixture(scope="session")
def demo_tokenizer(demo):
    return demo.tokenizer


@pytest.fixture(scope="session")
def gpt2_oracles(gpt2_tokenizer):
    return oracles(gpt2_tokenizer)


@given(st.text(max_size=60))
def test_any_text_has_the_same_ids_as_the_oracles(gpt2_tokenizer, gpt2_oracles, text):
    for oracle in gpt2_oracles:
        assert gpt2_tokenizer.encode(text) == list(oracle(text))


def test_end_of_text_is_a_token_only_on_request(demo_tokenizer):
    text = f"one{END_OF_TEXT}two"
    assert demo_tokenizer.eos_id not in demo_tokenizer.encode(text)
    ids = demo_tokenizer.encode(text, allow_special=True)
    assert ids.count(demo_tokenizer.eos_id) == 1
    assert demo_tokenizer.decode(ids) == text


@given(st.lists(st.integers(0, 2000), max_size=30))
def test_any_ids_decode(demo_tokenizer, ids):
    text = demo_tokenizer.decode(ids)
    raw = b"".join(demo_tokenizer.token_bytes(i) for i in ids)
    assert text == raw.decode("utf-8", errors="replace")


def test_bytes_that_are_no_utf8_decode_to_the_replacement_character(demo_tokenizer):
    lead = next(i for i in range(256) if demo_tokenizer.token_bytes(i) == b"\xe2")
    assert demo_tokenizer.decode([lead]) == "\ufffd"


def test_an_unknown_id_is_named(demo_tokenizer):
    with pytest.raises(TokenizerError, match="id 999999 is not in the vocabulary"):
        demo_tokenizer.decode([999999])


def test_a_lone_surrogate_is_named_with_its_place(demo_tokenizer):
    with pytest.raises(TokenizerError, match=r"lone surrogate U\+D800 at character 2"):
        demo_tokenizer.encode("ab\ud800")


def test_a_long_word_costs_no_more_per_letter(demo_tokenizer, monkeypatch):
    """Counted in heap operations, not in seconds: they grow as the word does."""
    import reference.tokenizer as module

    count = 0
    original = module.heapq.heappush

    def counting(heap, item):
        nonlocal count
        count += 1
        original(heap, item)

    monkeypatch.setattr(module.heapq, "heappush", counting)
    counts = []
    for length in (10_000, 100_000):
        count = 0
        word = ("theandcapital" * length)[:length]
        assert demo_tokenizer.decode(demo_tokenizer.encode(word)) == word
        counts.append(count)
    assert counts[1] <= 10.5 * counts[0]


@given(st.binary(min_size=1, max_size=80))
def test_both_ways_of_merging_give_the_same(demo_tokenizer, word):
    ids = [demo_tokenizer._byte_ids[byte] for byte in word]
    assert demo_tokenizer._merge_few(list(ids)) == demo_tokenizer._merge_many(list(ids))


# Letters and digits since Unicode 17 and 18, and a code point that is nothing in either.
NEWER = ["\U000323b0", "\u088f", "\U0003d000", "\U00011de0", "\U000e0fff", "\u0378"]


@pytest.mark.parametrize("letter", NEWER)
@pytest.mark.parametrize("frame", ["{0}", "a{0}b {0}{0} 1{0}'s", "日{0}本 {0}", "x {0}\n\n{0} y"])
def test_a_newer_unicode_changes_no_ids(gpt2_tokenizer, gpt2_oracles, letter, frame):
    """`regex` follows each new version of Unicode; our words do not."""
    text = frame.format(letter)
    for _ in range(2):  # the second time from the cache
        for oracle in gpt2_oracles:
            assert gpt2_tokenizer.encode(text) == list(oracle(text))
    assert gpt2_tokenizer.decode(gpt2_tokenizer.encode(text)) == text


def test_what_unicode_16_knows_is_what_it_is_said_to():
    """The table, against a copy of Unicode 16.0's data that is not ours."""
    unicodedata2 = pytest.importorskip("unicodedata2")
    if unicodedata2.unidata_version != "16.0.0":
        pytest.skip(f"unicodedata2 is of Unicode {unicodedata2.unidata_version}")
    for code in range(0x110000):
        unassigned = unicodedata2.category(chr(code)) == "Cn"
        assert is_unassigned(chr(code)) == unassigned, hex(code)


def test_the_cache_of_words_is_bounded(demo, monkeypatch):
    import reference.tokenizer as module

    monkeypatch.setattr(module, "CACHED_WORDS", 50)
    tokenizer = Tokenizer(demo.tokenizer.vocab, demo.tokenizer.merges)
    texts = [f"w{i} {'x' * 70}{i}" for i in range(300)]
    for text in texts:
        assert tokenizer.encode(text) == demo.tokenizer.encode(text)
    assert len(tokenizer._words) <= 50
    assert all(len(word) <= module.CACHED_WORD_LETTERS for word in tokenizer._words)


def test_whitespace_tokenizer_of_the_tutorial():
    tokenizer = WhitespaceTokenizer(["all", "not", "heroes", "the", "wear", ".", "capes"])
    assert tokenizer.encode("not all heroes wear") == [1, 0, 2, 4]
    assert tokenizer.decode([1, 0, 2, 4]) == "not all heroes wear"


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("not all heroes wear shoes", "shoes"),
        ("not  all", ""),
        ("", ""),
        ("not all heroes wear capes!", "capes!"),
    ],
)
def test_whitespace_tokenizer_names_the_unknown_word(text, token):
    tokenizer = WhitespaceTokenizer(["all", "not", "heroes", "the", "wear", ".", "capes"])
    with pytest.raises(KeyError) as caught:
        tokenizer.encode(text)
    assert caught.value.args == (token,)
    assert repr(token) in str(caught.value)


# Damaged files.


def write(folder, vocab, merges):
    (folder / "vocab.json").write_text(vocab, encoding="utf-8")
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    return folder / "vocab.json", folder / "merges.txt"


LETTERS = {letter: byte for byte, letter in enumerate(byte_letters())}


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        ("{", "", "vocab.json: not JSON"),
        ("[1]", "", "expected a JSON object"),
        ('{"a": "b"}', "", "gives each token an id"),
        ('{"a": 0, "b": 0}', "", "two tokens have the same id"),
        ("[" * 100_000, "", "not JSON"),
        ('{"a": 0}', "", "no token for byte 0x00"),
        (json.dumps({**LETTERS, "日": 256}), "", "token '日' holds '日', which stands for no byte"),
        (json.dumps(LETTERS), "#version: 0.2\na b c\n", "merges.txt:2: found 3 parts"),
        (json.dumps(LETTERS), "a b\n", r"rule 1 \('a' 'b'\) needs 'ab'"),
    ],
)
def test_damaged_tokenizer_files_are_named(tmp_path, vocab, merges, message):
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(*write(tmp_path, vocab, merges))


def test_windows_line_ends_and_a_byte_order_mark(tmp_path):
    vocab = json.dumps(LETTERS | {"ab": 256})
    tokenizer = load_tokenizer(*write(tmp_path, "\ufeff" + vocab, "#version: 0.2\r\na b\r\n"))
    assert tokenizer.encode("ab") == [256]


def test_files_that_are_missing_or_no_text(tmp_path):
    vocab, merges = write(tmp_path, "{}", "")
    vocab.write_bytes(b"\xff\xfe")
    with pytest.raises(TokenizerError, match="byte 0 is not UTF-8"):
        load_tokenizer(vocab, merges)
    vocab.unlink()
    with pytest.raises(TokenizerError, match="No such file"):
        load_tokenizer(vocab, merges)


def test_the_hash_tells_vocabularies_apart():
    one, two = Tokenizer(LETTERS, []), Tokenizer(LETTERS | {"ab": 256}, [("a", "b")])
    assert one.sha256 != two.sha256
    assert one.sha256 == Tokenizer(dict(reversed(LETTERS.items())), []).sha256
