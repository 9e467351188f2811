"""What holds of every text."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from reference.tokenizer import ASCII_WORD, END_OF_TEXT, WORD

# Texts with what is likely to break a tokenizer: runs of white space, apostrophes, the special
# token's letters, and every plane of Unicode.
texts = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.text(alphabet=" \t\n\r\u00a0\u2003'", max_size=6),
        st.sampled_from(
            [END_OF_TEXT, "'ll", "<|", "|>", "1234", "the", "\U0001f469\u200d\U0001f467"]
        ),
    ),
    max_size=8,
).map("".join)


@given(texts)
def test_no_text_is_lost(demo, text):
    ids = demo.tokenizer.encode(text)
    assert demo.tokenizer.decode(ids) == text
    assert demo.tokenizer.eos_id not in ids
    assert all(0 <= i < demo.hparams["n_vocab"] for i in ids)


@given(texts)
def test_special_tokens_on_request_lose_nothing_either(demo, text):
    ids = demo.tokenizer.encode(text, allow_special=True)
    assert demo.tokenizer.decode(ids) == text
    assert ids.count(demo.tokenizer.eos_id) == text.count(END_OF_TEXT)


@given(texts, texts)
def test_a_text_has_the_same_ids_each_time(demo, one, two):
    """The cache of merged words changes nothing."""
    first = demo.tokenizer.encode(one)
    demo.tokenizer.encode(two)
    assert demo.tokenizer.encode(one) == first


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_the_pattern_for_ascii_cuts_as_the_other(text):
    assert ASCII_WORD.findall(text) == WORD.findall(text)


def test_the_pattern_for_ascii_cuts_as_the_other_between_any_two_characters():
    for one, two in product(map(chr, range(128)), repeat=2):
        text = f"{one}{two} {one} {two}\n{two}{one}"
        assert ASCII_WORD.findall(text) == WORD.findall(text)
    for letters in product("'stvel0! \n\x1c", repeat=5):
        text = "".join(letters)
        assert ASCII_WORD.findall(text) == WORD.findall(text)
