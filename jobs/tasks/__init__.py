"""Kinds of tasks."""

from . import last_word, multiple_choice, perplexity
from .kind import Kind

KINDS: dict[str, Kind] = {
    module.KIND.name: module.KIND for module in (perplexity, last_word, multiple_choice)
}
