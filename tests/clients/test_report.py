"""The report of a run, in Chromium: wide and narrow, light and dark.

With PICOBATCH_REPORT_SCREENSHOTS=docs in the environment its pictures are taken there.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from jobs import report
from jobs.run_folder import write_run
from tests.jobs.fake_run import hostile_result, simulated

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SIZES = [(*size, colour) for size in ((1280, 1600), (375, 1200)) for colour in ("light", "dark")]


def seen(page, folder=None):
    """What report.mjs finds, for each size."""
    for name in ("playwright-core", "axe-core"):
        if not (HERE / "node_modules" / name).is_dir():
            pytest.skip(f"{name} is not there: run `make clients` where npm is")
    if CHROMIUM is None:
        pytest.skip("no `chromium` in PATH: install it")
    shots = [
        {
            "width": width,
            "height": height,
            "colorScheme": colour,
            "path": str(Path(folder) / f"report-{width}-{colour}.png") if folder else None,
        }
        for width, height, colour in SIZES
    ]
    done = subprocess.run(
        ["node", HERE / "report.mjs", CHROMIUM],
        input=json.dumps({"page": str(page), "shots": shots}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=100,
    )
    return json.loads(done.stdout)


def check(found):
    assert len(found) == len(SIZES)
    for size, (*_, colour) in zip(found, SIZES, strict=True):
        assert (
            size.pop("colour") == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 27)"}[colour]
        )
        assert size == {"overflow": 0, "asked": [], "said": [], "broken": []}


def test_it_fits_asks_nothing_and_can_be_read(tmp_path):
    result, before, rows = simulated(60, damaged=3)
    baseline = write_run(before, tmp_path / "baselines")
    page = report.write(write_run(result, tmp_path), baseline, rows)
    check(seen(page, os.environ.get("PICOBATCH_REPORT_SCREENSHOTS")))


def test_hostile_text_neither_runs_nor_widens_it(tmp_path):
    result, before, rows = simulated(4, damaged=2)
    baseline = write_run(hostile_result(before), tmp_path / "baselines")
    page = report.write(write_run(hostile_result(result), tmp_path), baseline, rows)
    check(seen(page))


@pytest.mark.parametrize("what", ["script", "image", "style", "width"])
def test_what_is_wrong_is_seen(what, tmp_path):
    result, _, _ = simulated(1, damaged=0)
    page = report.write(write_run(result, tmp_path))
    html = page.read_text("utf-8")
    wrong = {
        "script": "<script>console.log(1)</script>",
        "image": '<img alt="a picture" src="http://127.0.0.1:9/picture.png">',
        "style": '<p style="color: #999">a pale text</p>',
        "width": '<p style="width: 400px">a wide text</p>',
    }
    page.write_text(html.replace("</main>", f"{wrong[what]}</main>"), "utf-8")
    with pytest.raises(AssertionError):
        check(seen(page))
