"""A standard load on this machine and model, and where the time went."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reference import Model, load_model

from .messages import printable
from .report import RunReport
from .run import run
from .settings import RunSettings

LONGEST_PROMPT = 230  # tokens; lognormal, half of them up to 50
KINDS = {
    "products": ("Gemm", "MatMul", "MatMulIntegerToFloat", "QuantizeLinear"),
    "attention": ("GroupQueryAttention",),
    "choice": ("ArgMax", "LogSoftmax", "GatherND", "GatherElements"),
}


def measure(model: str, rows: int, max_new_tokens: int, **options: Any) -> str:
    """Run the load; returns the figures as a table.

    Parameters
    ----------
    model : str
        As in `RunSettings`.
    rows, max_new_tokens : int
        Prompts, and tokens for each.
    **options
        Of `RunSettings`: how the model is run.
    """
    loaded = load_model(
        model, models_dir=options.get("models_dir"), base_url=options.get("base_url")
    )
    n_ctx = loaded.hparams["n_ctx"]
    new_tokens = min(max_new_tokens, n_ctx // 2)
    with tempfile.TemporaryDirectory(prefix="picobatch-bench-") as folder:
        source = Path(folder) / "in.jsonl"
        with source.open("w", encoding="utf-8") as stream:
            for text in _prompts(loaded, rows, n_ctx - new_tokens):
                stream.write(json.dumps({"prompt": text}) + "\n")
        settings = RunSettings(
            str(source),
            str(Path(folder) / "out.parquet"),
            model=model,
            max_new_tokens=new_tokens,
            ignore_eos=True,
            truncate_prompt="left",
            profiled=True,
            **options,
        )
        return table(run(settings), settings)


def _prompts(model: Model, rows: int, most_tokens: int) -> Iterator[str]:
    rng = np.random.default_rng(0)
    n_tokens = len(model.tokenizer)
    for length in np.clip(np.exp(rng.normal(3.9, 0.7, rows)), 8, LONGEST_PROMPT):
        ids = rng.integers(0, n_tokens - 1, min(int(length), most_tokens))
        yield model.tokenizer.decode(int(token) for token in ids if token != model.tokenizer.eos_id)


def table(report: RunReport, settings: RunSettings) -> str:
    """The report of a profiled job, stage by stage."""
    seconds, engine = report.elapsed_s, report.engine
    total = seconds["total"]
    running = total - seconds["load"]
    stages = {name: s for name, s in seconds.items() if name != "total"}
    stages["other"] = total - sum(stages.values())
    notes = {
        "prefill": f"{engine['prefill_tokens_per_s']:,.0f} tokens/s",
        "decode": f"{engine['decode_tokens_per_s']:,.0f} tokens/s in {engine['decode_steps']:,} "
        f"steps, {engine['occupancy']:.0%} of their rows running",
        "other": "scheduling, and what is left",
    }
    lines = [
        f"{settings.model}, {settings.dtype}, {settings.threads} threads, up to "
        f"{engine['most_slots']} rows together",
        f"{report.rows:,} rows, {report.prompt_tokens:,} prompt tokens, "
        f"{report.completion_tokens:,} new ones in {running:.1f} s: "
        f"{report.completion_tokens / running:,.0f} tokens/s, "
        f"{engine['peak_bytes'] / 2**20:,.0f} MiB at most",
        "",
    ]
    lines += [_line(name, s, total, notes.get(name, "")) for name, s in stages.items()]
    lines.append("of prefill and decode:")
    operators: dict[str, float] = engine["operators_s"]
    model_s = seconds["prefill"] + seconds["decode"]
    kinds = {kind: sum(operators.get(op, 0.0) for op in ops) for kind, ops in KINDS.items()}
    kinds["the rest"] = sum(operators.values()) - sum(kinds.values())
    kinds["outside"] = model_s - sum(operators.values())
    lines += [_line(f"  {name}", s, model_s, "") for name, s in kinds.items()]
    return printable("\n".join([*lines, report.check.summary()]))


def _line(name: str, seconds: float, total: float, note: str) -> str:
    return f"{name:<12}{seconds:9.3f} s {seconds / total:7.1%}   {note}".rstrip()
