"""Time and memory of a large model: load, first token, batch, export; a first start and a second.

    python -m benchmarks.random_checkpoint 1558M MODEL --vocabulary FOLDER
    python -m benchmarks.large_model MODEL SCRATCH

Each figure is that of a whole process of the command `runner`, with an empty cache at first. Its
peak is what it had in memory at once, mapped pages of the weights file included; `anonymous` is
memory that is not a file's, which the system can only take back by swapping.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime

SAMPLED_S = 0.02


def measure(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Seconds and bytes of a process."""
    start_s = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    highest: dict[str, int] = {}
    ended = threading.Event()
    watcher = threading.Thread(target=watch, args=(process.pid, highest, ended))
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    ended.set()
    watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return {
        "elapsed_s": round(time.perf_counter() - start_s, 2),
        "peak_bytes": usage.ru_maxrss * 1024,
        "anonymous_bytes": highest.get("RssAnon", 0) * 1024,
        "read_blocks": usage.ru_inblock,
    }


def watch(pid: int, highest: dict[str, int], ended: threading.Event) -> None:
    """The highest RssAnon, looked up every few milliseconds."""
    while not ended.wait(SAMPLED_S):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("RssAnon:"):
                highest["RssAnon"] = max(highest.get("RssAnon", 0), int(line.split()[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--only", nargs="*", help="names of rows")
    args = parser.parse_args()
    args.scratch.mkdir(parents=True, exist_ok=True)
    cache = args.scratch / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    environment = {**os.environ, "PICOBATCH_CACHE_DIR": str(cache)}
    runner = str(Path(sys.executable).parent / "runner")
    model, exported = str(args.model), args.scratch / "exported"
    generate = [runner, "generate", "Alan Turing theorized that", "--model", model]
    prompts = args.scratch / "prompts.jsonl"
    prompts.write_text('{"prompt": "Not all heroes wear capes."}\n' * 4)
    rows = {
        "load, first": [runner, "models", model],
        "load, second": [runner, "models", model],
        "first token, first": [*generate, "--max-new-tokens", "1"],
        "first token, second": [*generate, "--max-new-tokens", "1"],
        "batch of 4, checked": [
            *[runner, "batch", str(prompts), str(args.scratch / "out.jsonl"), "--overwrite"],
            *["--model", model, "--max-new-tokens", "4", "--check-rows", "2"],
        ],
        "export": [runner, "export", model, str(exported)],
        "export beside": [runner, "export", model, model],
    }
    weights = sum(p.stat().st_size for p in args.model.iterdir() if p.stat().st_size > 1 << 26)
    print(f"weights {weights / 1e9:.2f} GB")
    print(f"{'':20} {'time':>8} {'peak':>9} {'anonymous':>10}")
    figures = {}
    for name, command in rows.items():
        if args.only and name not in args.only:
            continue
        shutil.rmtree(exported, ignore_errors=True)
        for file in ("model.onnx", "next_logits.onnx", "manifest.json"):
            (args.model / file).unlink(missing_ok=True)
        figures[name] = found = measure(command, environment)
        peak, anonymous = found["peak_bytes"] / 1e9, found["anonymous_bytes"] / 1e9
        print(
            f"{name:20} {found['elapsed_s']:6.1f} s {peak:6.2f} GB {anonymous:7.2f} GB", flush=True
        )
    machine = {
        "cpu": platform.machine(),
        "cores": os.cpu_count(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    print(json.dumps({"weights_bytes": weights, "figures": figures, "machine": machine}))


if __name__ == "__main__":
    main()
