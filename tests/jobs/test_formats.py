"""Public formats as documents: the harness' cleaning, and rows that are none."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.documents import read_documents
from jobs.formats import (
    ENCLOSED,
    FORMATS,
    Format,
    Question,
    RowError,
    Text,
    enclosed,
    plain,
    question,
    without_markup,
    without_token_spaces,
)
from jobs.task_spec import TaskSpec

GOLDEN = Path(__file__).parents[1] / "golden"
MARKUP = (GOLDEN / "lm_eval" / "markup.jsonl").read_text("utf-8").splitlines()
CLEANED = json.loads((GOLDEN / "lm_eval.json").read_text())["cleaned"]

HELLASWAG = {
    "ctx_a": "A man sits. ",
    "ctx_b": "he",
    "activity_label": "Sitting",
    "endings": ["stands up.", "sings."],
    "label": "1",
}
CBT = {
    "sentences": ["One day it rained .", "Tom had a cap ."],
    "question": "So Tom put on his XXXXX , and went .",
    "options": ["cap", "day"],
    "answer": "cap",
}


@pytest.mark.parametrize(("line", "wanted"), list(zip(MARKUP, CLEANED, strict=True)))
def test_texts_are_cleaned_as_the_harness_does(line, wanted):
    text = json.loads(line)["text"]
    assert without_markup(text) == wanted["hellaswag"]
    assert without_token_spaces(text) == wanted["wikitext"]


# As the harness strips what is enclosed.
HARNESS = [
    (r"\(\s*([^\)]*?)\s*\)", r"(\1)"),
    (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
    (r"{\s*([^}]*?)\s*}", r"{\1}"),
    (r"\"\s*([^\"]*?)\s*\"", r'"\1"'),
    (r"'\s*([^']*?)\s*'", r"'\1'"),
]


@given(st.text("(){}[]\"' \n\x1c\u00a0\u200bab\\", max_size=24))
def test_what_is_enclosed_is_stripped_as_by_the_harness(page):
    wanted = page
    for pattern, joined in HARNESS:
        wanted = re.sub(pattern, joined, wanted)
    for pattern in ENCLOSED:
        page = pattern.sub(enclosed, page)
    assert page == wanted


def test_what_is_never_closed_takes_no_long_time():
    page = "(" + " " * 100_000 + "'"  # the third power of that would be hours
    assert without_token_spaces(page) == page


def test_hellaswag():
    asked = Question("Sitting: A man sits. He", ("stands up.", "sings."), 1)
    assert FORMATS["hellaswag"].document(HELLASWAG) == asked
    assert FORMATS["hellaswag"].document(HELLASWAG | {"label": 1}) == asked


def test_cbt_scores_the_option_and_what_comes_after_it():
    assert FORMATS["cbt"].document(CBT) == Question(
        "One day it rained . Tom had a cap . So Tom put on his",
        ("cap , and went .", "day , and went ."),
        0,
    )


def test_blimp_has_the_good_sentence_first_and_no_context():
    row = {"sentence_good": "It is.", "sentence_bad": "It are."}
    assert FORMATS["blimp"].document(row) == Question("", ("It is.", "It are."), 0)


def test_a_page_keeps_its_own_words_and_bytes():
    row = {"page": " 1 @,@ 000 metres . "}
    assert FORMATS["wikitext"].document(row) == Text(" 1,000 metres. ", " 1 @,@ 000 metres . ")


@pytest.mark.parametrize(("label", "place"), [(1, 1), ("1", 1), ("b", 1), ("2", 0)])
def test_a_label_is_a_place_or_a_choice(label, place):
    choices = ["2", "b"]
    assert question({"context": "", "choices": choices, "label": label}).label == place


@pytest.mark.parametrize(
    ("form", "row", "reason"),
    [
        ("hellaswag", HELLASWAG | {"label": ""}, "\"label\" is ''; expected 0 to 1"),
        ("hellaswag", HELLASWAG | {"label": 2}, '"label" is 2; expected 0 to 1'),
        ("hellaswag", HELLASWAG | {"label": True}, '"label" is True; expected 0 to 1'),
        ("hellaswag", HELLASWAG | {"endings": "no"}, '"endings" is .*; expected a list of strings'),
        ("hellaswag", HELLASWAG | {"endings": ["a", 3]}, '"endings" is 3; expected a string'),
        ("hellaswag", HELLASWAG | {"endings": ["a"]}, "1 choices; expected at least two"),
        ("hellaswag", HELLASWAG | {"endings": ["a", "[x]"]}, "an empty choice"),
        ("cbt", CBT | {"question": "No gap."}, '"question" has no XXXXX; expected one'),
        ("cbt", CBT | {"answer": "hat"}, "\"answer\" is 'hat'; expected one of cap, day"),
        ("lambada", {"text": None}, '"text" is null; expected a string'),
        ("lambada", {"text": "\ud800"}, '"text" has a lone surrogate'),
    ],
)
def test_a_row_that_is_none_says_why(form, row, reason):
    with pytest.raises(RowError, match=reason):
        FORMATS[form].document(row)


def spec_of(tmp_path, rows, **more):
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return TaskSpec("t", "last_word", ("a.jsonl",), folder=tmp_path, **more)


OWN = Format(("text",), plain)


def test_columns_have_the_files_names(tmp_path):
    rows = [{"sentence": "One.", "key": 7}, {"sentence": "Two.", "key": "x"}]
    spec = spec_of(tmp_path, rows, columns={"text": "sentence", "id": "key"})
    asked, result = read_documents(spec, OWN, Text)
    assert [(a.id, a.document.text) for a in asked] == [("7", "One."), ("x", "Two.")]
    assert result.bad_rows == []
    assert result.data[0]["name"] == f"{tmp_path}/a.jsonl"


def test_a_row_without_a_column_is_bad_and_named_as_the_file_does(tmp_path):
    spec = spec_of(tmp_path, [{"sentence": "One."}, {"other": 1}], columns={"text": "sentence"})
    asked, result = read_documents(spec, OWN, Text)
    assert len(asked) == 1
    assert result.bad_rows[0].where == f"{tmp_path}/a.jsonl:2"
    assert result.bad_rows[0].reason == "no 'sentence'; this row has other"


def test_rows_are_known_by_what_they_hold(tmp_path):
    texts = ["One.", "Two.", "One.", "One."]
    asked, _ = read_documents(spec_of(tmp_path, [{"text": t} for t in texts]), OWN, Text)
    turned, _ = read_documents(spec_of(tmp_path, [{"text": t} for t in texts[::-1]]), OWN, Text)
    assert sorted(a.id for a in asked) == sorted(a.id for a in turned)
    assert len({a.id for a in asked}) == len(texts)
    assert asked[2].id == f"{asked[0].id}-2"


def test_plain_text_by_file_and_by_line(tmp_path):
    (tmp_path / "a.txt").write_text("One.\nTwo.\n")
    spec = TaskSpec("t", "perplexity", ("a.txt",), "text", folder=tmp_path)
    assert len(read_documents(spec, OWN, Text)[0]) == 1
    assert len(read_documents(spec, OWN, Text, by_line=True)[0]) == 2
