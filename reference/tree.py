"""Walking a parameter tree: nested dicts and lists with arrays (or shapes) at the leaves."""

from collections.abc import Callable, Iterator
from typing import Any


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `(path, leaf)` in the tree's order; a path reads `blocks.11.mlp.c_fc.w`."""
    if isinstance(tree, dict):
        for key, child in tree.items():
            yield from leaves(child, join(path, key))
    elif isinstance(tree, list):
        for position, child in enumerate(tree):
            yield from leaves(child, join(path, position))
    else:
        yield path, tree


def tree_map(function: Callable[[str, Any], Any], tree: Any, path: str = "") -> Any:
    """The same tree with `function(path, leaf)` at each leaf."""
    if isinstance(tree, dict):
        # A kind of dict stays one: see int8.py.
        return type(tree)(
            (k, tree_map(function, child, join(path, k))) for k, child in tree.items()
        )
    if isinstance(tree, list):
        return [tree_map(function, child, join(path, i)) for i, child in enumerate(tree)]
    return function(path, tree)


def join(path: str, key: str | int) -> str:
    return f"{path}.{key}" if path else str(key)
