"""`tokenizer.json` and tokens that a fine-tuned model adds, against the `tokenizers` package."""

import json
import shutil

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from reference import TokenizerError, load_model
from reference.models import DEMO_DIR
from reference.tokenizer import AddedToken, Tokenizer
from reference.tokenizer_files import read_tokenizer, write_tokenizer


def build(tokenizer, added=()):
    """The same vocabulary in the `tokenizers` package, saved as transformers saves it."""
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(tokenizer.vocab, tokenizer.merges))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    theirs.add_special_tokens(["<|endoftext|>"])
    theirs.add_tokens([tokenizers.AddedToken(content) for content in added])
    return theirs


ADDED = ["foobar", "foo", " two words", "日本"]


@pytest.fixture(scope="module")
def theirs(demo):
    return build(demo.tokenizer, ADDED)


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    theirs.save(str(folder / "tokenizer.json"))
    return read_tokenizer(folder)


def test_tokenizer_json_alone_is_the_same_tokenizer(demo, tmp_path):
    build(demo.tokenizer).save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(tmp_path).sha256 == demo.tokenizer.sha256
    folder = shutil.copytree(DEMO_DIR, tmp_path / "m")
    (folder / "vocab.json").unlink()
    (folder / "merges.txt").unlink()
    shutil.copy(tmp_path / "tokenizer.json", folder)
    assert load_model(folder).tokenizer.encode("Hello there") == demo.tokenizer.encode(
        "Hello there"
    )


def test_merges_as_older_versions_wrote_them(demo, tmp_path):
    build(demo.tokenizer).save(str(tmp_path / "tokenizer.json"))
    found = json.loads((tmp_path / "tokenizer.json").read_text())
    found["model"]["merges"] = [" ".join(pair) for pair in found["model"]["merges"]]
    for key in ("type", "byte_fallback", "ignore_merges"):
        del found["model"][key]
    del found["pre_tokenizer"]["use_regex"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(found))
    assert read_tokenizer(tmp_path).sha256 == demo.tokenizer.sha256


texts = st.lists(
    st.one_of(st.sampled_from([*ADDED, "fo", "oba", "r", " ", "two", "'ll"]), st.text(max_size=5)),
    max_size=8,
).map("".join)


@given(texts)
def test_added_tokens_are_found_as_they_find_them(ours, theirs, text):
    ids = ours.encode(text)
    assert ids == theirs.encode(text).ids
    assert ours.decode(ids) == text


def test_the_longest_added_token_wins(ours):
    names = [ours.token_bytes(i).decode() for i in ours.encode("a foobar foo")]
    assert names[1:] == [" ", "foobar", " ", "foo"]


def test_special_tokens_are_text_unless_asked_for(demo, tmp_path):
    theirs = build(demo.tokenizer)
    theirs.add_special_tokens(["<|pad|>"])
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours, text = read_tokenizer(tmp_path), "a<|pad|>b<|endoftext|>"
    assert ours.encode(text) == demo.tokenizer.encode(text)
    assert ours.encode(text, allow_special=True) == theirs.encode(text).ids
    assert ours.decode([2304]) == "<|pad|>"


def test_added_tokens_beside_vocabulary_and_merges(demo, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(DEMO_DIR / name, tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"foobar": 2304, "<|pad|>": 2305}))
    decoder = {"2304": {"content": "foobar", "special": False, "lstrip": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    tokenizer = read_tokenizer(tmp_path)
    assert tokenizer.encode("foobar") == [2304]
    assert 2305 not in tokenizer.encode("<|pad|>")
    assert tokenizer.encode("<|pad|>", allow_special=True) == [2305]


@given(texts)
def test_what_is_written_is_read_back(ours, tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("written")
    write_tokenizer(ours, folder)
    again = read_tokenizer(folder)
    assert again.sha256 == ours.sha256
    assert again.encode(text) == ours.encode(text)


def test_the_demo_vocabulary_is_written_as_it_was(demo, tmp_path):
    write_tokenizer(demo.tokenizer, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merges.txt", "vocab.json"]
    assert read_tokenizer(tmp_path).sha256 == demo.tokenizer.sha256


def edited(path, where, value):
    found = json.loads(path.read_text())
    *parents, last = where
    inner = found
    for key in parents:
        inner = inner[key]
    inner[last] = value
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["model", "type"], "WordPiece", "model.type is 'WordPiece', which is not implemented"),
        (["model", "dropout"], 0.1, "model.dropout is '0.1'"),
        (["model", "ignore_merges"], True, "model.ignore_merges is 'True'"),
        (["model", "byte_fallback"], True, "model.byte_fallback is 'True'"),
        (["model", "continuing_subword_prefix"], "##", "model.continuing_subword_prefix is '##'"),
        (["model", "end_of_word_suffix"], "</w>", "model.end_of_word_suffix is '</w>'"),
        (["model"], None, "model: is 'None'; expected a JSON object"),
        (["model", "merges"], 3, "merges is '3'; expected a list"),
        (["model", "merges"], [["a"]], "merge 1 is .* expected two tokens"),
        (["model", "merges"], ["a b c"], "merge 1 is 'a b c'; expected two tokens"),
        (["model", "merges"], [5], "merge 1 is '5'; expected two tokens"),
        (["model", "vocab"], {"a": -1}, "gives each token an id"),
        (["normalizer"], {"type": "NFC"}, "normalizer is .*NFC.*, which is not implemented"),
        (["pre_tokenizer"], None, "pre_tokenizer: is 'None'"),
        (["pre_tokenizer", "type"], "Whitespace", "pre_tokenizer.type is 'Whitespace'"),
        (["pre_tokenizer", "add_prefix_space"], True, "pre_tokenizer.add_prefix_space is 'True'"),
        (["pre_tokenizer", "use_regex"], False, "pre_tokenizer.use_regex is 'False'"),
        (["post_processor"], {"type": "BertProcessing"}, "post_processor is .*BertProcessing"),
        (
            ["post_processor"],
            {"type": "TemplateProcessing", "single": [{"SpecialToken": {}}, {"Sequence": {}}]},
            "post_processor is .*TemplateProcessing",
        ),
        (["post_processor"], "x", "post_processor: is 'x'; expected a JSON object"),
        (["added_tokens", 0], 7, "an added token: is '7'; expected a JSON object"),
        (["added_tokens", 0, "lstrip"], True, "of '<|endoftext|>', lstrip is 'True'"),
        (["added_tokens", 0, "id"], "x", "an added token .* has id 'x'"),
        (["added_tokens", 0, "content"], "", "an added token '' has id"),
        (["added_tokens", 0, "id"], 5, "two tokens have the same id, or one has two"),
    ],
)
def test_what_would_give_other_ids_is_refused_by_name(demo, tmp_path, where, value, message):
    build(demo.tokenizer).save(str(tmp_path / "tokenizer.json"))
    edited(tmp_path / "tokenizer.json", where, value)
    with pytest.raises(TokenizerError, match=message.replace("|", r"\|")):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "processor",
    [
        None,
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False},
        {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}]},
    ],
)
def test_post_processors_that_add_nothing(demo, tmp_path, processor):
    build(demo.tokenizer).save(str(tmp_path / "tokenizer.json"))
    edited(tmp_path / "tokenizer.json", ["post_processor"], processor)
    assert read_tokenizer(tmp_path).sha256 == demo.tokenizer.sha256


@pytest.mark.parametrize("option", ["add_prefix_space", "add_bos_token", "add_eos_token"])
def test_tokenizer_config_is_not_ignored(demo, tmp_path, option):
    folder = shutil.copytree(DEMO_DIR, tmp_path / "m")
    (folder / "tokenizer_config.json").write_text(json.dumps({option: True}))
    with pytest.raises(TokenizerError, match=f"{option} is 'True', which is not implemented"):
        load_model(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({option: False, "x": 1}))
    load_model(folder)


def test_an_added_token_with_the_id_of_another(demo):
    with pytest.raises(TokenizerError, match="two tokens have the same id"):
        Tokenizer(
            demo.tokenizer.vocab, demo.tokenizer.merges, [AddedToken("foo", 5, special=False)]
        )
