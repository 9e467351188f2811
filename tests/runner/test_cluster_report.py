"""What is said of a job that a cluster did, in the report and in what is kept of it."""

import json

from click.testing import CliRunner

from runner.check_report import CheckReport
from runner.cli import cli
from runner.merge import merge
from runner.outcome import Outcome
from runner.parts import FailedPart, Part, PartRecord
from runner.report import ExitCode, RunReport
from runner.run import run
from runner.settings import RunSettings

CLUSTER = {
    "nodes": 2,
    "tasks_at_a_time": 1000,
    "cpus_per_task": 4,
    "attempts": 5,
    "failures": 3,
    "losses": 0,
    "spares": 0,
    "excluded": {"10.0.0.1 (abc)": "its disk is full"},
}
PARTS = [Part(0, range(5)), Part(1, range(5, 9))]


def report_of(records, failed, **engine):
    report = RunReport("out.jsonl")
    report.take(PARTS, records)
    found = Outcome(failed=[FailedPart(PARTS[n], "no luck (node a)") for n in failed])
    found.cluster, found.engine = CLUSTER, engine
    report.take_outcome(found)
    report.elapsed_s = {"total": 2.0, **found.effort.seconds}
    return report


def test_all_parts_failed():
    report = report_of({}, [0, 1])
    assert report.exit_code == ExitCode.BAD_ROWS
    lines = report.summary().splitlines()
    assert lines[0] == "out.jsonl: 0 rows, 0 tokens in 2.0 s (0 tokens/s)"
    assert "5 starts of 2 parts" in lines[1]
    assert lines[2] == "left out: node 10.0.0.1 (abc): its disk is full"
    assert lines[3] == "failed: part 0 (rows 0 to 4): no luck (node a)"
    assert lines[5].startswith("out.jsonl: not written, 2 of 2 parts failed. Mend that")


def test_a_part_failed_others_have_bad_rows_and_disagree():
    record = PartRecord(
        rows=5,
        bad_rows=1,
        check=CheckReport(rows=1, positions=2, disagreements=1, offending_rows=1),
    )
    report = report_of({0: record}, [1])
    assert report.exit_code == ExitCode.DISAGREES
    said = report.summary()
    assert "not written, 1 of 2 parts failed; the others are kept. Mend that" in said
    assert "1 bad row is kept" in said
    assert "What is done is kept and marked." in said
    assert "The output is kept" not in said


def test_shards_of_clusters_are_merged(tmp_path):
    """One was begun again when all of its parts were done: no stage of it took any time."""
    (tmp_path / "in.jsonl").write_text('{"prompt": "a"}\n' * 8)
    output = tmp_path / "out.jsonl"
    for n in range(2):
        settings = RunSettings(
            str(tmp_path / "in.jsonl"), str(output), shard=(n, 2), max_new_tokens=1, threads=1
        )
        run(settings)
        path = tmp_path / f"out-0000{n}-of-00002.jsonl.manifest.json"
        found = json.loads(path.read_text()) | {"cluster": CLUSTER | {"nodes": n + 1}}
        if n == 1:
            found["elapsed_s"] = {"total": 1.0}
        path.write_text(json.dumps(found))
        said = CliRunner().invoke(cli, ["inspect", str(path.with_suffix("").with_suffix(""))])
        nodes = ("1 node", "2 nodes")[n]
        assert f"cluster      {nodes}, 1,000 tasks of 4 CPUs at a time" in said.stdout
        assert "float32, 4 threads" in said.stdout
    report = merge(str(output))
    assert report.rows == 8
    assert "cluster" not in report.provenance
    assert [shard["cluster"]["nodes"] for shard in report.provenance["shards"]] == [1, 2]
    assert report.provenance["elapsed_s"]["total"] > 1
    assert CliRunner().invoke(cli, ["inspect", str(output)]).exit_code == 0


def test_a_job_that_found_all_parts_done_names_all_stages():
    """`runner merge` and programs look for them."""
    assert {"prefill", "decode"} <= Outcome().effort.seconds.keys()
