"""Draws what `benchmarks.memory` has measured.

    python -m benchmarks.memory_plot SCRATCH/memory.json docs/memory.png

Each line is a process tree from its start to its end, as far along as its time is. Needs
matplotlib (`pip install picobatch[bench]`).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

SIZE = (12, 7)  # inches, of 100 dots
POINTS = 400  # of a line, each the highest of its stretch
LABELS = {
    "short rows": "{rows} rows, JSONL",
    "all rows checked": "{rows} rows, all checked",
    "one row group": "{rows} rows, one Parquet row group",
    "gzip to Parquet": "{rows} rows, JSONL.gz to Parquet",
    "long rows": "{rows} rows of 1 MB, JSONL",
    "long rows, Parquet": "{rows} rows of 1 MB, Parquet",
    "killed and resumed": "{rows} rows, killed halfway, resumed",
    "four shards merged": "{rows} rows, four shards merged",
}
COLORS = ["#1b6ca8", "#6f4e9c", "#2a8c6a", "#b0632b", "#c2385a", "#7d1f3f", "#5f6b73", "#a68a00"]
GAP = 0.042  # between labels, of the axis's height


def shown(n: int) -> str:
    return f"{n // 1_000_000} million" if n >= 1_000_000 else f"{n:,}"


def duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{seconds:.0f} s"


def highest(values: list[int], n: int) -> tuple[Any, Any]:
    """Shares of the way, and the highest value around each."""
    cut = np.array_split(np.array(values), min(n, len(values)))
    return np.linspace(0, 100, len(cut)), np.array([part.max() for part in cut]) / 2**20


def apart(wanted: list[float], gap: float) -> list[float]:
    """Heights for labels, in order, none nearer to the one below than `gap`."""
    found: list[float] = []
    for height in wanted:
        found.append(max(height, found[-1] + gap) if found else height)
    excess = (found[-1] - wanted[-1]) / 2 if found else 0.0
    return [height - excess for height in found]


def draw(cases: dict[str, Any], path: Path) -> None:
    """One line for each case, each with its name beside its end."""
    figure, axes = plt.subplots(figsize=SIZE, dpi=100, facecolor="white")
    lines = []
    for (name, found), color in zip(cases.items(), COLORS, strict=False):
        x, y = highest(found["rss_bytes"], POINTS)
        wide = 2.4 if name == "short rows" else 1.4
        axes.plot(x, y, color=color, linewidth=wide, solid_joinstyle="round")
        label = LABELS.get(name, name).format(rows=shown(found["rows"]))
        steady = float(np.median(y[len(y) * 4 // 5 :]))
        lines.append((steady, f"{label} ({duration(found['elapsed_s'])})", color))
    top = max(max(found["rss_bytes"]) for found in cases.values()) / 2**20 * 1.08
    lines.sort()
    heights = apart([steady for steady, _, _ in lines], GAP * top)
    for height, (steady, label, color) in zip(heights, lines, strict=True):
        axes.annotate(
            label,
            xy=(100, steady),
            xytext=(103, height),
            color=color,
            fontsize=11,
            weight="bold" if "10 million" in label else "normal",
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.7,
                "relpos": (0, 0.5),
                "shrinkA": 2,
                "shrinkB": 0,
            },
        )
    axes.set_xlim(0, 100)
    axes.set_ylim(0, top)
    axes.set_xlabel("share of the run's time, %", fontsize=12)
    axes.set_ylabel("resident memory of the process tree, MiB", fontsize=12)
    axes.set_title("Memory of whole jobs", loc="left", fontsize=15, weight="bold")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.tick_params(labelsize=11, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.subplots_adjust(left=0.075, right=0.655, top=0.93, bottom=0.09)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    draw(json.loads(args.samples.read_text()), args.picture)


if __name__ == "__main__":
    main()
