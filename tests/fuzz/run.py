"""Fuzz a parser with atheris: `python -m tests.fuzz.run TARGET --seconds N`.

libFuzzer chooses inputs by the lines that they reach. It runs in a process of its own with a limit
for memory and one for the time of each input; an input that breaks the law stays in `--folder`.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_MIB = 2048
MOST_SECONDS = 30  # for one input
MOST_BYTES = 1 << 15  # of one input
OURS_OF_EIGHT = 6  # inputs that our own mutators make; libFuzzer makes the others
STATUS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)")


@dataclass(frozen=True)
class Fuzzed:
    """What a run came to.

    Attributes
    ----------
    executions, coverage, features, corpus : int
        libFuzzer's figures: inputs tried, places reached in Python, combinations, inputs kept.
    crashes : list of Path
        Inputs that broke the law.
    output : str
        What was said.
    """

    executions: int
    coverage: int
    features: int
    corpus: int
    crashes: list[Path]
    output: str


def is_installed() -> bool:
    return importlib.util.find_spec("atheris") is not None


def fuzz(target: str, seconds: int, folder: Path) -> Fuzzed:
    """Fuzz a target in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    before = {*folder.glob("*-*")}
    with tempfile.TemporaryDirectory(prefix="picobatch-fuzz-") as scratch:
        environment = os.environ | {
            "PICOBATCH_CACHE_DIR": f"{scratch}/cache",
            "PICOBATCH_MODELS_DIR": f"{scratch}/models",
            "PICOBATCH_FUZZ_UNTIMED": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "TMPDIR": scratch,
        }
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.run", target, "--inside"),
                f"-max_total_time={seconds}",
                f"-rss_limit_mb={MOST_MIB}",
                f"-timeout={MOST_SECONDS}",
                f"-max_len={MOST_BYTES}",
                f"-artifact_prefix={folder}/{target}-",
                "-print_final_stats=1",
                f"{scratch}/corpus",
            ],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            check=False,
            timeout=seconds + 300,
        )
    output = (done.stdout + done.stderr).decode(errors="replace")
    last = [*STATUS.findall(output), ("0", "0", "0", "0")]
    executions, coverage, features, corpus = map(int, last[-2 if len(last) > 1 else -1])
    crashes = sorted({*folder.glob(f"{target}-*")} - before)
    if done.returncode and not crashes:
        raise RuntimeError(f"the fuzzer ended with {done.returncode}: {output[-2000:]}")
    return Fuzzed(executions, coverage, features, corpus, crashes, output)


def inside(target: str, options: list[str]) -> None:
    """Run libFuzzer; does not return."""
    import atheris

    with atheris.instrument_imports(include=["reference", "exporter", "runner", "jobs"]):
        from . import targets
    from .mutate import Random

    targets.add_seeds()
    found = targets.TARGETS[target]
    corpus = Path(options[-1])
    corpus.mkdir()
    for n, data in enumerate(found.inputs()):
        (corpus / f"seed-{n}").write_bytes(data)

    def change(data: bytes, most_bytes: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.randrange(8) < OURS_OF_EIGHT:
            return found.change(rng, bytes(data))[:most_bytes]
        return bytes(atheris.Mutate(data, most_bytes))

    atheris.Setup([sys.argv[0], *options], found.try_input, custom_mutator=change)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given, options = parser.parse_known_args()
    if given.inside:
        inside(given.target, options)
    from .targets import TARGETS

    names = list(TARGETS) if given.target == "all" else [given.target]
    n_crashes = 0
    for name in names:
        found = fuzz(name, given.seconds, given.folder)
        n_crashes += len(found.crashes)
        print(
            f"{name:12} {found.executions:9,} inputs in {given.seconds} s, coverage "
            f"{found.coverage:,}, {found.corpus:,} kept, {len(found.crashes)} broke the law",
            flush=True,
        )
        for crash in found.crashes:
            print(f"{crash}\n{said(found.output)}")
    sys.exit(1 if n_crashes else 0)


def said(output: str) -> str:
    """The part of libFuzzer's output that says what happened."""
    at = output.find("=== Uncaught Python exception")
    return output[at if at >= 0 else -3000 :][:3000]


if __name__ == "__main__":
    main()
