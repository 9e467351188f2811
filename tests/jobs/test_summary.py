"""A run in short; GitHub's own parser says what its markdown becomes."""

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import given
from hypothesis import strategies as st

from jobs import markdown as md
from jobs.gate import judge
from jobs.results import BadRow, Metric, RowResult
from jobs.summary import markdown, text
from runner.messages import printable
from tests.jobs.nights import result, row, spec, task

HOSTILE = [
    "a | b", "`code`", "<script>alert(1)</script>", "x\n\n# heading\n\n- list", "</code></details>",
    "![x](http://evil.example/x.png)", "[a](b)", "www.evil.example", "https://evil.example",
    "me@evil.example", "*a* _b_ ~~c~~", "&amp; &#124;", "\\| \\", "|---|", "\x1b[31m", "a\r\nb",
    "$x$", "@somebody #12", "mailto:me@evil.example", "http://me@evil.example/x",
    ":smile:", "1. x", "- x", "+ x", "1) x", "===", "---", "    x", "\u202eabc",
    "```\nx\n```", "> q", "<!-- x", "[^1]", "a  \nb", "\\", "", "| a |\n|---|\n| b |",
]  # fmt: skip
ALLOWED = {
    "h2", "p", "br", "table", "thead", "tbody", "tr", "th", "td", "code", "ul", "li", "strong",
    "details", "summary",
}  # fmt: skip


class Seen(HTMLParser):
    """Tags of a page, and the text of its cells and headings."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.cells = [], set(), [[]]
        self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell &= tag not in ("td", "th")

    def handle_data(self, data):
        if self.in_cell:
            self.cells[-1][-1] += data


def rendered(source):
    page = cmarkgfm.github_flavored_markdown_to_html(source, Options.CMARK_OPT_UNSAFE)
    return Seen(page)


def shown(value):
    return printable(re.sub(r"\r\n?|\n", "⏎", value))


@given(st.sampled_from(HOSTILE) | st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_stays_text(value):
    header = ["a", "b"]
    seen = rendered("\n".join(md.table([header, [md.code(value), "1"], ["2", "3"]], right=[1])))
    rows = [cells for cells in seen.cells if cells]
    assert rows == [header, [shown(value), "1"], ["2", "3"]]
    assert {*seen.tags} == {"table", "thead", "tbody", "tr", "th", "td", "code"}


def night(strings, n=8):
    """A run in which everything that may be the user's is one of these."""
    take = itertools.cycle(strings)

    def rows(right):
        return [
            RowResult(str(i), next(take), next(take), next(take), right, row(i, right).values)
            for i in range(n)
        ]

    before = result(job=next(take), **{next(take): task(rows(True))})
    before.run = next(take)
    name = next(iter(before.tasks))
    now = replace(before, tasks={name: task(rows(False), Metric(next(take), 1.0, None, 3, True))})
    now.tasks[name].bad_rows.extend(BadRow(next(take), next(take)) for _ in range(9))
    now.failed = {next(take): next(take)}
    now.model = now.model | {"name": next(take)}
    now.check = {"agrees": False, "offending": [next(take)]}
    now.gate = judge(spec(baseline=next(take), tasks=(name,)), now, before).as_dict()
    now.gate["notes"] = [next(take)]
    return now


@given(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=9), min_size=1, max_size=20))
def test_nothing_breaks_out_of_the_markdown(strings):
    plain = rendered(markdown(night(["plain"])))
    seen = rendered(markdown(night(strings)))
    assert seen.attributes <= {"align"}
    assert {*seen.tags} <= ALLOWED
    assert seen.tags == plain.tags
    assert [len(cells) for cells in seen.cells] == [len(cells) for cells in plain.cells]


@given(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=9), min_size=1, max_size=20))
def test_nothing_reaches_the_terminal(strings):
    assert all(c.isprintable() or c == "\n" for c in text(night(strings)))


def test_the_largest_is_small_enough_for_github():
    """Texts of characters that grow most when they are escaped, in more rows than are shown."""
    found = night(["\U000e0001" * 3000, "@" * 9000], n=300)
    name = next(iter(found.tasks))
    for n in range(600):
        found.tasks[name].metrics.append(Metric("@" * 300 + str(n), 1.0, 1.0, 3, True))
    findings = found.gate["findings"]
    found.gate["findings"] = [
        findings[0] | {"metric": f"{n}", "reason": "@" * 9999} for n in range(900)
    ]
    found.gate["notes"] = ["@" * 9999] * 99
    assert len(markdown(found).encode()) < 1 << 19
    assert len(text(found).encode()) < 1 << 17


def run(*right, **more):
    return result(t=task([row(n, r) for n, r in enumerate(right)]), **more)


def gated(now, before, **more):
    now.gate = judge(spec(**more), now, before).as_dict()
    return now


def test_a_run_that_passes():
    said = text(gated(run(1, 1, 0), run(1, 1, 0))).splitlines()
    assert said[0] == ("demo: passed; baseline good of 2026-03-01; demo, float32; run r1, 1.5 s")
    assert said[1].split() == ["task", "metric", "value", "before", "difference", "verdict"]
    assert " ".join(said[2].split()) == "t acc 0.666667 ± 0.33 0.666667 0 same"
    assert len(said) == 5


def test_a_metric_is_one_line_whatever_its_group_is_called():
    found = night(["x"])
    name = next(iter(found.tasks))
    found.tasks[name].metrics.append(Metric("exact_match/a\nb", 0.25, None, 3, True))
    (line,) = [line for line in text(found).splitlines() if "exact_match/a" in line]
    assert line.split() == [name, "exact_match/a\\nb", "0.25"]


def test_a_run_that_fails_says_where_and_why():
    now = gated(run(*[0] * 7, 1), run(*[1] * 8), thresholds={"acc": (0.5, None)})
    said = text(now)
    assert said.startswith("demo: FAILED, 1 metric; baseline good")
    table = [line.split() for line in said.splitlines()[1:5]]
    assert table[1][:2] == ["t", "acc"]  # what fails comes first
    assert table[1][-1] == "REGRESSION"
    assert "t acc: regression: 0.125, worse by 0.875 than 1 (7.0 standard errors; 8 rows" in said
    assert "t acc: threshold: 0.125; expected 0.5 or more" in said
    assert "flipped rows: 7 right before and wrong now, 0 wrong before and right now" in said
    assert "  t: '0 follows': ' 1' expected; ' 1' before, ' 7' now" in said
    assert "and 2 more of them: see results.json" in said
    page = rendered(markdown(now))
    assert ["t", "acc", "0.125 ± 0.12", "1", "-0.875 ± 0.12", "REGRESSION"] in page.cells
    assert ["t", "0 follows", " 1", " 1", " 7", "no"] in page.cells


def test_the_first_night():
    said = text(gated(run(1), None))
    assert said.startswith("demo: not gated; demo, float32")
    assert (
        "note: no baseline yet in baselines: nothing is judged; make this one with `runner eval"
        in said
    )
    assert "REG" not in said


@pytest.mark.parametrize("gate", [None, {}])
def test_before_anything_is_judged(gate):
    found = replace(run(1, 0), gate=gate)
    assert text(found).startswith("demo: not gated")
    assert "acc" in markdown(found)


def test_the_mark_is_that_of_the_whole_run():
    before = run(1, 1, 0)
    passed = gated(run(1, 1, 0), before)
    assert markdown(passed).startswith("## ✅ demo")
    assert markdown(replace(passed, failed={"u": "x"})).startswith("## ❌ demo")
    assert markdown(replace(passed, check={"agrees": False})).startswith("## ❌ demo")
    assert markdown(gated(run(*[0] * 9), run(*[1] * 9))).startswith("## ❌ demo")
    assert markdown(gated(run(1), None)).startswith("## demo")


def test_troubles_are_told_and_counted():
    found = run(1, 0)
    found.tasks["t"].bad_rows.extend(BadRow(f"d:{n}", "no text") for n in range(8))
    found.failed = {"u": "d.jsonl: no such file"}
    generation = {"offending": ["v: row 3"]}
    found.check = {
        "agrees": False,
        "offending": ["t: 'a' -> 'b': too far"],
        "generation": generation,
    }
    for said in (text(found), re.sub("&#([0-9]+);", lambda m: chr(int(m[1])), markdown(found))):
        assert "not gated; 1 task FAILED; DISAGREES with the NumPy reference; demo" in said
        assert "check: t: 'a' -> 'b': too far" in said
        assert "check: v: row 3" in said
        assert "u: failed: d.jsonl: no such file" in said
        assert "t: bad row: d:4: no text" in said
        assert "d:5" not in said
        assert "and 3 more such lines: see results.json" in said
