"""Kinds of tasks."""

from . import (
    completions,
    greedy,
    last_word,
    multiple_choice,
    parity,
    perplexity,
    python,
    throughput,
)
from .kind import Kind

KINDS: dict[str, Kind] = {
    module.KIND.name: module.KIND
    for module in (
        perplexity,
        last_word,
        multiple_choice,
        greedy,
        completions,
        parity,
        throughput,
        python,
    )
}
