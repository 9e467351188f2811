"""The command line: what it prints, its exit codes, and the other commands."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from exporter import open_package
from reference import load_model
from reference.models import DEMO_DIR
from runner.cli import cli
from runner.options import MemorySize


def runner(*args, stdin=None, env=None):
    result = CliRunner().invoke(cli, [str(arg) for arg in args], input=stdin, env=env)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_everywhere(flag):
    assert "Exit codes" in runner(flag).stdout
    for name in cli.commands:
        result = runner(name, flag)
        assert result.exit_code == 0
        assert "Usage: " in result.stdout


def test_every_option_has_help():
    for name, command in cli.commands.items():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.help, f"{name} {parameter.name}"


def test_version():
    from reference import __version__

    assert runner("--version").stdout == f"runner (picobatch) {__version__}\n"


@pytest.mark.parametrize(
    "args",
    [
        ["batch"],
        ["batch", "a.jsonl", "b.jsonl", "--batch-size", "0"],
        ["batch", "a.jsonl", "b.jsonl", "--check-rows", "some"],
        ["batch", "a.jsonl", "b.jsonl", "--dtype", "int3"],
        ["batch", "a.jsonl", "b.jsonl", "--memory", "much"],
        ["batch", "a.jsonl", "b.jsonl", "--metrics", "b.jsonl"],
        ["batch", "a.jsonl", "b.jsonl", "--stop", ""],
        ["export", "demo"],
        ["dance"],
    ],
)
def test_usage_errors_exit_with_2(args):
    assert runner(*args).exit_code == 2


def test_stdin_to_stdout_is_json_lines(tmp_path):
    result = runner("batch", "-", "-", stdin='{"id": 7, "prompt": "The capital of France is"}\n')
    assert result.exit_code == 0
    row = json.loads(result.stdout)
    assert (row["id"], row["completion"]) == (7, " Paris.")
    assert "check: ok: 1 rows" in result.stderr
    assert "using the bundled model `demo`" in result.stderr
    assert "124M" in result.stderr


def test_stdin_to_parquet_and_bad_lines_by_number(tmp_path):
    result = runner("batch", "-", tmp_path / "o.parquet", stdin='{"prompt": "one"}\nnonsense\n')
    assert result.exit_code == 3
    assert "-:2: not JSON" in result.stderr


def test_no_line_about_the_demo_where_a_model_is_named(tmp_path):
    result = runner("batch", "-", "-", "--model", "demo", stdin='{"prompt": "one"}\n')
    assert "using the bundled model" not in result.stderr


def test_options_from_the_environment():
    env = {"RUNNER_BATCH_MAX_NEW_TOKENS": "1", "RUNNER_BATCH_CHECK_ROWS": "0"}
    result = runner("batch", "-", "-", stdin='{"prompt": "one two"}\n', env=env)
    assert json.loads(result.stdout)["completion_tokens"] == 1
    assert "no rows were compared" in result.stderr


def test_generate_prints_the_completion_and_nothing_else():
    result = runner("generate", "The capital of France is")
    assert (result.exit_code, result.stdout) == (0, " Paris.\n")
    result = runner("generate", "The capital of France is", "--stop", "ris")
    assert result.stdout == " Pa\n"
    result = runner("generate", "The capital of France is", "--max-new-tokens", 0)
    assert result.stdout == "\n"


def test_generate_never_prints_half_a_character(monkeypatch, demo):
    """Whatever the tokens are, the pieces join to the decoded whole."""
    from runner.settings import RunSettings
    from runner.single import complete

    for prompt in ("é", "日本", "\x00"):
        pieces = []
        settings = RunSettings("-", "-", ignore_eos=True, max_new_tokens=12, stop=("qqqq",))
        result = complete(demo, prompt, settings, pieces.append)
        assert "".join(pieces) == result.text


@pytest.mark.parametrize(
    ("text", "message"), [("one " * 300, "expected at most 255"), ("\udcff", "lone surrogate")]
)
def test_generate_refuses_a_bad_prompt(text, message):
    result = runner("generate", text)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stdout == ""


def test_models_lists_and_describes():
    listed = runner("models").stdout
    for name in ("demo", "124M", "355M", "774M", "1558M", "124,439,808"):
        assert name in listed
    described = runner("models", "demo").stdout
    assert "n_ctx             256" in described
    assert load_model("demo").weights_sha256 in described
    result = runner("models", "nope")
    assert (result.exit_code, "no such model" in result.stderr) == (1, True)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "demo"
    result = runner("export", "demo", directory)
    assert result.exit_code == 0
    return directory, result.stdout


def test_export_ends_with_what_inspect_prints_again(exported):
    directory, said = exported
    assert re.search(
        r"onnx/forward.onnx +[\d,]+  forward, float32 +input_ids +ok, [\d.e-]+ \(of [\d.]+\)\n",
        said,
    )
    assert re.search(r"onnx/model.onnx_data +4,[\d,]+\n", said)
    assert runner("inspect", directory).stdout == said
    assert runner("inspect", f"file://{directory}").stdout == said
    found = json.loads(runner("inspect", directory, "--json").stdout)
    assert found["variants"]["float32"]["parity"]["checks"]["forward"]["agrees"]


OURS = "--runtime", "onnxruntime"


def test_check_of_an_export_in_every_runtime_that_is_here(exported):
    result = runner("check", exported[0], "--prompts", 2, "--max-new-tokens", 3)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    for runtime in ("onnxruntime", "reference-evaluator"):
        for graph in ("with_past", "forward", "next_logits"):
            (line,) = (li for li in lines if re.match(rf"{runtime} .* float32 +{graph} ", li))
            assert line.endswith(" ok")
    (line,) = (li for li in lines if re.match(r"onnxruntime .* with_past", li))
    assert " 12/12 " in line  # tokens of 2 prompts, padded on either side
    (line,) = (li for li in lines if li.startswith("onnxruntime-web: "))
    assert "not installed: " in line


def test_check_in_a_runtime_that_is_not_here(exported, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = runner("check", exported[0], "--runtime", "openvino")
    assert result.exit_code == 1
    assert "--runtime openvino: not installed: pip install openvino" in result.stderr


def test_a_scheduler_that_ends_a_job_is_obeyed_as_an_error_is():
    """Whatever the command: SIGTERM unwinds it, so that nothing half written stays."""
    CliRunner().invoke(cli, ["models"])
    with pytest.raises(SystemExit) as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 128 + signal.SIGTERM


def test_a_sigterm_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    CliRunner().invoke(cli, ["models"])
    assert signal.signal(signal.SIGTERM, before) == signal.SIG_IGN


def test_check_exits_with_4_where_a_graph_computes_something_else(exported, tmp_path):
    """A graph edited by hand, its manifest brought in line with it."""
    import onnx

    directory = shutil.copytree(exported[0], tmp_path / "edited")
    path = directory / "onnx" / "forward.onnx"
    proto = onnx.load(path, load_external_data=False)
    for node in proto.graph.node:
        if node.op_type == "Tanh":
            node.op_type = "Abs"
    path.write_bytes(proto.SerializeToString())
    result = runner("check", directory, *OURS)
    assert result.exit_code == 1
    assert "is not the file that was exported" in result.stderr
    from exporter.package import fingerprint

    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"]["onnx/forward.onnx"] = fingerprint(path)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    open_package(directory)
    result = runner("check", directory, *OURS)
    assert result.exit_code == 4
    assert re.search(r"float32  forward .* FAILED\n", result.stdout)
    assert re.search(r"float32  next_logits .* ok\n", result.stdout)
    assert "onnxruntime float32 forward: forward, padded on the right, a prompt" in result.stdout


def test_an_export_that_disagrees_is_not_written(tmp_path, monkeypatch):
    import runner.trial as module

    def half(*_, **__):
        raise module.DisagreementError("graph forward disagrees")

    monkeypatch.setattr("runner.cli.parity_record", half)
    result = runner("export", "demo", tmp_path / "x", "--n-ctx", 8)
    assert result.exit_code == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        ["--opset", 20],
        ["--opset", 26, "--n-ctx", 8],
        ["--ir-version", 10, "--n-ctx", 8],
        ["--target", "onnxruntime"],
        ["--n-ctx", 16],
        ["--n-ctx", 1, "--dtype", "int8", "--dtype", "float16"],
        ["--dtype", "int8", "--target", "onnxruntime"],
    ],
)
def test_export_options(tmp_path, options):
    result = runner("export", "demo", tmp_path / "x", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert runner("check", tmp_path / "x", *OURS).exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--opset", 99], "opset 99: expected 13 to 2"),
        (["--ir-version", 7], "IR version 7: expected 8, the smallest for opset 17, to 1"),
        (["--n-ctx", 999], "n_ctx 999: expected 1"),
    ],
)
def test_export_refuses(tmp_path, options, message):
    result = runner("export", "demo", tmp_path / "x", *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_inspect_of_a_completions_file(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "The capital of France is"}\n{"prompt": 1}\n')
    for output in ("o.jsonl", "o.parquet"):
        result = runner("batch", tmp_path / "in.jsonl", tmp_path / output)
        result = runner("inspect", tmp_path / output, "--rows", 2)
        assert result.exit_code == 0
        assert "rows         2, 1 of them bad" in result.stdout
        assert "check        ok: 1 rows" in result.stdout
        assert "'The capital of France is' -> ' Paris.'" in result.stdout
        assert "-> error: 'prompt' is 1" in result.stdout
        found = json.loads(runner("inspect", tmp_path / output, "--json").stdout)
        assert found["counts"]["bad_rows"] == 1
        address = runner("inspect", f"file://{tmp_path}/{output}", "--rows", 2)
        assert address.stdout == result.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.parquet", "no such file"),
        ("in.jsonl", "no provenance; expected a file that `runner batch` wrote, with in.jsonl.man"),
        ("bad.parquet", "not readable"),
        ("in\udcff.jsonl", "in\\udcff.jsonl': its name is no Unicode"),
    ],
)
def test_inspect_of_what_is_none(tmp_path, name, message):
    (tmp_path / "in.jsonl").write_text('{"prompt": "one"}\n')
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    result = runner("inspect", tmp_path / name)
    assert result.exit_code == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("https://u:secret@host/x.jsonl?k=secret", "https://host/x.jsonl: what is on the web cann"),
        ("file:///none/x.jsonl", "/none/x.jsonl: no such file"),
        ("file://host/x.jsonl", "names no file of this machine"),
        ("ftp://host/x.jsonl", "ftp:// is unknown"),
    ],
)
def test_inspect_of_an_address_that_cannot_be(address, message):
    result = runner("inspect", address)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "secret" not in result.stderr


def test_another_model_directory(tmp_path):
    shutil.copytree(DEMO_DIR, tmp_path / "mine")
    result = runner("generate", "The capital of France is", "--model", tmp_path / "mine")
    assert result.stdout == " Paris.\n"


def test_the_installed_command_and_a_plain_log(tmp_path):
    """As a nightly job calls it: no terminal, exit code, data on stdout only."""
    process = subprocess.run(
        [sys.executable, "-m", "runner.cli", "batch", "-", "-", "--limit", "1"],
        input=b'{"prompt": "one"}\n',
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert process.returncode == 0
    assert len(process.stdout.splitlines()) == 1
    assert b"\r" not in process.stderr


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("1000", 1000), ("512M", 512 << 20), ("1.5G", 3 << 29), ("8GiB", 8 << 30), ("2 kb", 2048)],
)
def test_sizes_of_memory(text, n_bytes):
    assert MemorySize().convert(text, None, None) == n_bytes


def test_too_little_memory_is_said_before_anything_is_written(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "one"}\n')
    result = runner("batch", tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--memory", "10M")
    assert result.exit_code == 2
    assert "memory is 0.01 GiB" in result.stderr
    assert "Give it at least" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_metrics_of_a_job(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "The capital of France is"}\n' * 3)
    metrics = tmp_path / "metrics.jsonl"
    result = runner("batch", tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--metrics", metrics)
    assert result.exit_code == 0
    last = json.loads(metrics.read_text().splitlines()[-1])
    assert (last["rows"], last["n_rows"], last["running"]) == (3, 3, 0)
    assert last["decode_tokens_per_s"] > 0
    assert last["memory_bytes"] > 1 << 20


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_bench_tells_where_the_time_goes(dtype):
    result = runner("bench", "--rows", 5, "--max-new-tokens", 3, "--dtype", dtype)
    assert result.exit_code == 0
    assert "5 rows" in result.stdout
    assert " 15 new ones" in result.stdout
    names = [line.split("  ")[0] for line in result.stdout.splitlines()]
    for stage in ("load", "tokenize", "prefill", "decode", "write", "other"):
        assert stage in names
    assert "  attention" in result.stdout
    assert "check: ok: 5 rows" in result.stdout


def test_generate_in_int8_says_the_same_here():
    exact = runner("generate", "The capital of France is")
    assert runner("generate", "The capital of France is", "--dtype", "int8").stdout == exact.stdout
