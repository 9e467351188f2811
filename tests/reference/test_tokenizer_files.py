"""`tokenizer.json` and tokens that a fine-tuned model adds, against the `tokenizers` package."""

import json
import shutil

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from reference import TokenizerError, load_model
from reference.added_tokens import AddedToken
from reference.models import DEMO_DIR
from reference.tokenizer import Tokenizer
from reference.tokenizer_files import read_tokenizer
from reference.tokenizer_write import write_tokenizer


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
    config = {"added_tokens_decoder": decoder, "pad_token": {"content": "<|pad|>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = read_tokenizer(tmp_path)
    assert tokenizer.encode("foobar") == [2304]
    assert 2305 not in tokenizer.encode("<|pad|>")
    assert tokenizer.encode("<|pad|>", allow_special=True) == [2305]


MAP = {"pad_token": "<pad>", "additional_special_tokens": ["<a>", {"content": "<b>"}]}


@pytest.mark.parametrize("where", ["added_tokens.json", "tokenizer_config.json", "both"])
@pytest.mark.parametrize("special_in", ["special_tokens_map.json", "tokenizer_config.json"])
def test_each_file_that_may_tell_of_added_tokens_is_heard(tmp_path, where, special_in):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(DEMO_DIR / name, tmp_path)
    ids = {"foo": 2304, "<pad>": 2305, "<a>": 2306, "<b>": 2307}
    config = {}
    if where != "tokenizer_config.json":
        (tmp_path / "added_tokens.json").write_text(json.dumps(ids))
    if where != "added_tokens.json":
        config["added_tokens_decoder"] = {
            str(i): {"content": text, "special": text != "foo"} for text, i in ids.items()
        }
    if special_in == "tokenizer_config.json":
        config |= MAP
    else:
        (tmp_path / special_in).write_text(json.dumps(MAP))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = read_tokenizer(tmp_path)
    special = {token.content for token in tokenizer.added.values() if token.special}
    assert special == {"<pad>", "<a>", "<b>", "<|endoftext|>"}
    assert tokenizer.encode("foo") == [2304]
    assert tokenizer.encode("<a>", allow_special=True) == [2306]


def test_two_files_that_give_a_token_two_ids(tmp_path):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(DEMO_DIR / name, tmp_path)
    (tmp_path / "added_tokens.json").write_text('{"foo": 2304}')
    config = {"added_tokens_decoder": {"2305": {"content": "foo"}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(TokenizerError, match="'foo' has id 2304, and another in tokenizer_config"):
        read_tokenizer(tmp_path)


def test_tokenizer_json_comes_first(demo, tmp_path):
    """Over a folder with the older files, transformers 5 saves this one alone."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(DEMO_DIR / name, tmp_path)
    theirs = build(demo.tokenizer, ["foobar"])
    theirs.save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(tmp_path).encode("a foobar") == theirs.encode("a foobar").ids


@given(
    st.lists(st.text("ab<x ", min_size=1, max_size=4), min_size=1, max_size=7, unique=True),
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=7, max_size=7),
    st.text("ab<x ", max_size=30),
)
def test_added_tokens_of_all_kinds(demo, tmp_path_factory, contents, flags, text):
    """Those that are not normalized are found first, wherever they are; special ones hide others
    even where they are text.
    """
    theirs = build(demo.tokenizer)
    theirs.add_tokens(
        [
            tokenizers.AddedToken(content, normalized=normalized, special=special)
            for content, (normalized, special) in zip(contents, flags, strict=False)
        ]
    )
    path = tmp_path_factory.mktemp("passes") / "tokenizer.json"
    theirs.save(str(path))
    ours = read_tokenizer(path.parent)
    assert ours.encode(text, allow_special=True) == theirs.encode(text).ids
    theirs.encode_special_tokens = True
    assert ours.encode(text) == theirs.encode(text).ids


def test_what_lies_beside_tokenizer_json_is_heard(demo, tmp_path):
    """As transformers does: measured with its version 5.24 on such a folder."""
    theirs = build(demo.tokenizer, ["foo"])
    theirs.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "added_tokens.json").write_text('{"foo": 2304, "bar": 2305}')
    decoder = {"2306": {"content": "qux", "normalized": False}}
    config = {"added_tokens_decoder": decoder}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs.add_tokens(["bar", tokenizers.AddedToken("qux", normalized=False)])
    ours = read_tokenizer(tmp_path)
    for text in ("a foo", "bar foo", "fooqux b", "<|endoftext|>qux"):
        theirs.encode_special_tokens = True
        assert ours.encode(text) == theirs.encode(text).ids
    decoder["2304"] = {"content": "foo", "lstrip": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(TokenizerError, match="of 'foo', lstrip is 'True', which is not impl"):
        read_tokenizer(tmp_path)
    decoder["2304"] = {"content": "bar"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(TokenizerError, match="'bar' has id 2305, and another in"):
        read_tokenizer(tmp_path)


def test_thousands_of_added_tokens_are_one_pattern_of_few_branches(demo):
    """As a list they would be tried one by one at every place of a text."""
    names = [f"{a}{b}{c}" for a in "bcdfg" for b in "hjklm" for c in range(200)]
    added = [AddedToken(name, 2304 + i, special=False) for i, name in enumerate(names)]
    tokenizer = Tokenizer(demo.tokenizer.vocab, demo.tokenizer.merges, added)
    (pattern,) = tokenizer._patterns
    assert pattern.pattern.count("(?:") == 2 + 5 + 5 * 5  # two for end-of-text
    assert tokenizer.encode("bh12 gm199x")[0] == 2304 + names.index("bh12")


def test_an_added_token_that_the_vocabulary_has_is_spelled_as_there(demo):
    word = next(t for t in demo.tokenizer.vocab if t.startswith("Ġ") and len(t) > 3)
    added = [AddedToken(word, demo.tokenizer.vocab[word], special=False)]
    tokenizer = Tokenizer(demo.tokenizer.vocab, demo.tokenizer.merges, added)
    text = f"in {word[1:]} x"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_an_end_of_text_that_is_not_special_is_written_too(demo, tmp_path):
    end = AddedToken("<|endoftext|>", demo.tokenizer.eos_id, special=False)
    tokenizer = Tokenizer(demo.tokenizer.vocab, demo.tokenizer.merges, [end])
    write_tokenizer(tokenizer, tmp_path)
    again = read_tokenizer(tmp_path)
    assert again.sha256 == tokenizer.sha256 != demo.tokenizer.sha256
    assert again.encode("<|endoftext|>") == [demo.tokenizer.eos_id]


def test_a_vocabulary_without_its_merges(demo, tmp_path):
    shutil.copy(DEMO_DIR / "vocab.json", tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(TokenizerError, match="merges.txt: holds no merges"):
        read_tokenizer(tmp_path)


@given(texts)
def test_what_is_written_is_read_back(ours, tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("written")
    write_tokenizer(ours, folder)
    again = read_tokenizer(folder)
    assert again.sha256 == ours.sha256
    assert again.encode(text) == ours.encode(text)


def test_the_demo_vocabulary_is_written_as_it_was(demo, tmp_path):
    write_tokenizer(demo.tokenizer, tmp_path, n_ctx=256)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 256
    (tmp_path / "tokenizer.json").rename(tmp_path / "kept")
    assert read_tokenizer(tmp_path).sha256 == demo.tokenizer.sha256
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink()
    (tmp_path / "kept").rename(tmp_path / "tokenizer.json")
    assert read_tokenizer(tmp_path).sha256 == demo.tokenizer.sha256


@given(texts)
def test_another_program_reads_the_same_tokens(gpt2_tokenizer, tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("written")
    write_tokenizer(gpt2_tokenizer, folder)
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert theirs.encode(text).ids == gpt2_tokenizer.encode(text)
    assert theirs.token_to_id("<|endoftext|>") == gpt2_tokenizer.eos_id


def test_ids_that_do_not_follow_are_told_in_the_other_way(demo, tmp_path):
    added = [AddedToken("<|far|>", 2310, special=True)]
    tokenizer = Tokenizer(demo.tokenizer.vocab, demo.tokenizer.merges, added)
    write_tokenizer(tokenizer, tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    assert read_tokenizer(tmp_path).sha256 == tokenizer.sha256


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
        (["added_tokens", 0, "id"], 5, "added token '<|endoftext|>' has id 5; expected 2303"),
        (["added_tokens", 0, "content"], "new", "added token 'new' has id 2303; expected 2304"),
        (["added_tokens"], None, "added_tokens is 'None'; expected a list"),
        (["added_tokens", 0, "content"], "a\ud800", "an added token 'a.ud800' has id 2303"),
        (["added_tokens", 0, "special"], "false", "special is 'false'"),
        (["model", "merges"], None, "merges is 'None'; expected a list"),
        (["model", "ignore_merges"], 0, "model.ignore_merges is '0'"),
        (["pre_tokenizer", "add_prefix_space"], 0, "pre_tokenizer.add_prefix_space is '0'"),
        (["version"], "2.0", "version is '2.0'"),
        (
            ["post_processor"],
            {"type": "TemplateProcessing", "single": [None]},
            "post_processor is .*TemplateProcessing",
        ),
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


# What transformers 5.24 makes of these files, run beside them.
@pytest.mark.parametrize(
    ("config", "special", "begins"),
    [
        ({}, {}, "<|endoftext|>"),
        ({"bos_token": "Ġthe"}, {}, "Ġthe"),
        ({"bos_token": {"content": "Ġthe"}}, {}, "Ġthe"),
        ({}, {"bos_token": "Ġof"}, "Ġof"),
        ({"bos_token": "Ġthe"}, {"bos_token": "Ġof"}, "Ġof"),
        ({"bos_token": "Ġthe", "added_tokens_decoder": {"#": 1}}, {"bos_token": "Ġof"}, "Ġthe"),
        ({"added_tokens_decoder": {"#": 1}}, {"bos_token": "Ġof"}, "<|endoftext|>"),
        ({"bos_token": None}, {}, "Ġto"),  # none: the one that ends a text
        ({"eos_token": "Ġthe"}, {}, "<|endoftext|>"),
    ],
)
def test_the_token_that_stands_before_a_text(demo, tmp_path, config, special, begins):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(DEMO_DIR / name, tmp_path)
    vocab = demo.tokenizer.vocab
    if "added_tokens_decoder" in config:
        config = config | {"added_tokens_decoder": {str(vocab["Ġthe"]): {"content": "Ġthe"}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    tokenizer = read_tokenizer(tmp_path, eos_id=vocab["Ġto"])
    assert (tokenizer.eos_id, tokenizer.bos_id) == (vocab["Ġto"], vocab[begins])
    again = tmp_path / "again"
    again.mkdir()
    write_tokenizer(tokenizer, again)
    assert read_tokenizer(again, tokenizer.eos_id).bos_id == tokenizer.bos_id
