"""The report of a run: a page that is whole, harmless, bounded, and says what happened."""

import datetime as dt
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import html5lib
import matplotlib as mpl
import pytest

from jobs import report
from jobs.history import run_table
from jobs.report.timeline import timeline
from jobs.results import BadRow, Metric, RowResult, TaskResult
from jobs.run_folder import write_run
from runner.errors import InputError, OutputError, SettingsError
from tests.jobs.fake_run import HOSTILE, Night, fake_result, gated, hostile_result, simulated

# Marks that turn the order of what follows, and characters that a terminal obeys.
RULING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        self.open.append(f"/{tag}")

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def tags(self):
        return {tag for tag, _ in self.elements}


def written(tmp_path, result, before=None, rows=()):
    baseline = write_run(before, tmp_path / "baselines") if before else None
    folder = write_run(result, tmp_path / "runs")
    text = report.write(folder, baseline, rows).read_text("utf-8")
    html5lib.HTMLParser(strict=True).parse(text)  # raises where it is not HTML
    return text


@pytest.fixture(scope="module")
def failed():
    return simulated(12, damaged=3)


@pytest.fixture(scope="module")
def page(failed, tmp_path_factory):
    return written(tmp_path_factory.mktemp("report"), *failed)


def test_it_asks_nothing_of_anybody(page):
    found = Page(page)
    assert not found.tags() & {
        *("script", "link", "img", "iframe", "object", "embed", "form", "base", "image", "audio")
    }
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert attributes.get("href", "#").startswith("#")
        assert "src" not in attributes
    assert set(re.findall(r"url\(.", page)) <= {"url(#"}
    assert "://" not in page
    assert "@import" not in page
    metas = [attributes for tag, attributes in found.elements if tag == "meta"]
    (policy,) = (m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.split("; ")[:2] == ["default-src 'none'", "style-src 'unsafe-inline'"]


def test_ids_are_there_once_and_lead_somewhere(page):
    found = Page(page)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    wanted = [a["href"][1:] for _, a in found.elements if "href" in a]
    wanted += [a["aria-labelledby"] for _, a in found.elements if "aria-labelledby" in a]
    assert len(ids) == len(set(ids))
    assert set(wanted) <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(ids)
    assert len(wanted) > 20


def test_plots_have_the_colours_of_the_page_and_are_told_in_words(page):
    plots = re.findall(r"<svg.*?</svg>", page)
    assert len(plots) > 20
    style = page[page.index("<style>") : page.index("</style>")]
    for plot in plots:
        assert not re.search(r"#[0-9a-f]{6}\b", plot), plot[:200]
        assert "font-family" not in plot
        assert re.search(r'role="img" aria-label="[^"]{5,}"', plot)
        for name in re.findall(r"var\((--[a-z]+)\)", plot):
            assert style.count(f"{name}: #") == 3  # light, dark, and on paper


def test_the_headline_says_what_where_and_since_when(page):
    text = Page(page).text
    assert re.search(r"Failed wikitext: word_perplexity rose from 56\.22 to 77\.\d\d ", text)
    assert "6 other metrics failed as well." in text
    first, damaged = (fake_result(Night(weights=name)) for name in ("first", "damaged"))
    changed = [result.model["weights_sha256"][:8] for result in (first, damaged)]
    assert (
        f"Since 28 November 2026 (3 runs), when this changed: weights {' → '.join(changed)}" in text
    )


def test_all_sections_are_there(page):
    text = Page(page).text
    for heading in (
        *("Scores", "Trends", "Calibration and length", "Flipped rows", "Bad rows"),
        *("The engine and the reference", "Speed", "Provenance"),
    ):
        assert heading in text
    assert 'samples/choices.jsonl:17 "label" is 7; expected 0 to 3. Correct the row.' in text
    assert fake_result().tasks["lambada"].data[0]["sha256"] in text
    assert "onnxruntime 1.31.0 → 1.32.0" in text
    assert "± 0.0" in text


def test_the_same_run_gives_the_same_bytes_whatever_the_user_has_set(failed, page, tmp_path):
    with mpl.rc_context({"font.size": 31, "lines.linewidth": 9, "svg.fonttype": "path"}):
        mine = dict(mpl.rcParams)
        assert written(tmp_path, *failed) == page
        assert dict(mpl.rcParams) == mine


def test_hostile_text_is_text(failed, page, tmp_path):
    result, before, rows = failed
    result = gated(hostile_result(result), hostile_result(before))
    rows = [{**row, "onnxruntime": HOSTILE if n > 40 else "1"} for n, row in enumerate(rows)]
    text = written(tmp_path, result, hostile_result(before), rows)
    found = Page(text)
    assert found.tags() <= Page(page).tags() | {"details", "summary", "i"}
    assert not RULING.search(text)
    assert "{{ 7 * 7 }}" in found.text
    assert "<script>alert(1)</script>" in found.text
    assert r"\x1b[2J\u202eevil\u202c" in found.text
    assert "characters ...]" in found.text
    assert " the end" in found.text
    assert len(text) < 2 * len(page)


def test_its_size_does_not_follow_the_rows(tmp_path):
    sizes = []
    for n_rows in (600, 6000):
        before = fake_result(Night(n=1, n_rows=n_rows))
        result = gated(fake_result(Night(skill=0.7, weights="damaged", n_rows=n_rows)), before)
        bad = [BadRow(f"rows.jsonl:{n}", "is empty; expected a text.") for n in range(n_rows)]
        result.tasks["speed"] = replace(result.tasks["speed"], bad_rows=bad)
        text = written(tmp_path / str(n_rows), result, before)
        lost = [flip for flip in result.gate["flipped"] if flip["task"] == "lambada"]
        assert f"And {len(lost) - 50:,} more in rows/lambada.parquet" in Page(text).text
        assert f"And {n_rows - 50:,} more in results.json" in Page(text).text
        sizes.append(len(text))
    assert len(lost) > 500
    assert sizes[1] < 1.05 * sizes[0]


def test_nor_the_nights(tmp_path):
    result = fake_result()
    rows = run_table(fake_result(Night(n=1))).to_pylist()
    sizes = []
    for n in (130, 400):
        nights = [
            {
                **row,
                "run": f"run {back}",
                "onnxruntime": f"1.{back}",
                "processor": f"{back} cores",
                "started": result.started - dt.timedelta(days=back),
            }
            for back in range(1, n)
            for row in rows
        ]
        text = written(tmp_path / str(n), result, rows=nights)
        sizes.append(len(text))
        assert f"{n} runs, the last 120 of them drawn" in Page(text).text
        assert text.count("onnxruntime 1.") == 26  # A to Z
    assert "cores →" not in text
    assert sizes[1] < 1.01 * sizes[0]


def with_rows(result, task, rows, metrics):
    return replace(result, tasks={**result.tasks, task: TaskResult(metrics, rows)})


def nothing(result):
    return replace(result, tasks={}, kinds={}, check={}, environment={})


def not_finite(result):
    row = RowResult("r", "p", "e", "a", None, {"probability": float("nan"), "tokens": 0.0})
    metrics = [
        Metric("acc", float("nan"), float("nan"), 0, higher_is_better=True),
        Metric("perplexity", float("inf"), None, 1, higher_is_better=False),
    ]
    return with_rows(result, "lambada", [row] * 40, metrics)


def one_row(result):
    for name in ("lambada", "capitals", "wikitext"):
        task = result.tasks[name]
        result = with_rows(result, name, task.rows[:1], task.metrics)
    return result


CASES = {
    "as it is": (lambda result: result, "Not gated, with 2 bad rows"),
    "nothing": (nothing, "Not gated 0 metrics of 0 tasks"),
    "no rows": (
        lambda result: with_rows(result, "capitals", [], []),
        "Not gated 7 metrics of 4 tasks, with no thresholds and no baseline",
    ),
    "one row": (one_row, "Not gated 9 metrics of 4 tasks"),
    "not finite": (not_finite, "Not gated"),
    "a task failed": (
        lambda result: replace(result, failed={"more": "its data went away."}, exit_code=1),
        "Failed more has no result: its data went away.",
    ),
}


@pytest.mark.parametrize(("change", "said"), CASES.values(), ids=CASES)
def test_it_is_made_of_whatever_there_is(change, said, tmp_path):
    result = change(fake_result())
    assert said in Page(written(tmp_path, result)).text


def test_what_is_not_finite_can_be_compared(tmp_path):
    before = fake_result(Night(n=1))
    result = gated(not_finite(fake_result()), before)
    history = run_table(before).to_pylist()
    nothing_known = dict.fromkeys(("value", "stderr", "verdict", "onnxruntime", "exit_code"))
    text = written(tmp_path, result, before, [{**row, **nothing_known} for row in history])
    assert "Failed lambada: " in Page(text).text
    assert "2 runs" in Page(text).text


def test_a_metric_that_went_away_is_missed(tmp_path):
    before = fake_result(Night(n=1))
    result = gated(nothing(fake_result()), before)
    text = Page(written(tmp_path, result, before)).text
    assert re.search(r"Failed \w+: \w+: was [\d.]+; the task is not in this run\. 8 other", text)
    assert text.count("✕ missing") == 9
    assert "0.833" in text


def test_a_disagreement_with_the_reference_comes_first(failed, tmp_path):
    result, before, rows = failed
    check = {**result.check, "agrees": False, "max_abs_diff": 3.25, "offending": ["lambada: ..."]}
    result = replace(result, check=check, exit_code=4)
    wrong = dict.fromkeys(sorted({row["run"] for row in rows})[-2:], 4)
    rows = [{**row, "exit_code": wrong.get(row["run"], 0)} for row in rows]
    text = Page(written(tmp_path, result, before, rows)).text
    assert "Disagrees with the reference The engine is up to 3.25 away" in text
    assert "Since 29 November 2026 (2 runs): model, weights and versions were those" in text
    assert "They disagree." in text


def test_the_timeline_has_the_runs_of_the_job_up_to_this_one(failed):
    result, _, rows = failed
    later = [{**rows[0], "run": "later", "started": result.started + dt.timedelta(hours=1)}]
    other = [{**rows[0], "run": "other", "job": "other"}]
    runs = timeline([*later, *reversed(rows), *other], result)
    assert [run.name for run in runs] == sorted({row["run"] for row in rows})
    assert runs[-1].metrics["lambada", "acc"].value == result.tasks["lambada"].metrics[0].value
    assert len(timeline([], result)) == 1


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_without_its_libraries_it_says_what_to_install(module, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("sections", "score_table", "row_plots", "plots", "svg"):
        monkeypatch.delitem(sys.modules, f"jobs.report.{name}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    folder = write_run(fake_result(), tmp_path)
    with pytest.raises(SettingsError, match=f"{module} is not .* pip install .picobatch.report."):
        report.write(folder)


def test_a_folder_of_something_else_is_refused(failed, tmp_path):
    folder = write_run(failed[0], tmp_path)
    rows = folder / "rows" / "lambada.parquet"
    rows.write_bytes(b"PAR1")
    with pytest.raises(InputError, match="lambada.parquet: not readable"):
        report.write(folder)
    (folder / "results.json").write_text(json.dumps({"schema": 7}))
    with pytest.raises(InputError, match="results.json"):
        report.write(folder)


def test_where_it_cannot_be_written_it_says_so(failed, tmp_path):
    folder = write_run(failed[0], tmp_path)
    (folder / "report.html").mkdir()
    with pytest.raises(OutputError, match="report.html: Is a directory; expected"):
        report.write(folder)
    assert not list(folder.glob(".*"))
