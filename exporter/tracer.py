"""`trace`: call a NumPy function with tracers instead of arrays, and keep what it did.

The function is never rewritten. A tracer takes part in NumPy's own protocols, so
`np.tanh(x)`, `x @ w` and `x[:, -1]` reach it as they would reach an array.

References
----------
NEP 13 (`__array_ufunc__`), NEP 18 (`__array_function__`), NEP 50 (weak Python scalars).
"""

import functools
import inspect
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import onnx
from numpy.lib.mixins import NDArrayOperatorsMixin

from reference import tree

from .dims import Dim, Length, Shape, shape_in_run
from .errors import TraceError
from .graph import Graph, Node, Value
from .methods import METHODS
from .primitives import PRIMITIVES
from .recorder import Recorder, as_array, check_dtype, is_tracer
from .targets import composites_of

DEFAULT_OPSET = 17
PLUS = " + "  # between the names of axes whose lengths are added
# The newest opset that the rows are tested with. Each may redefine an operator under its old name,
# as 18 did with the axes of reductions: a later one that onnx knows could mean something else.
NEWEST_TESTED = 28
OPSETS = range(13, min(NEWEST_TESTED, onnx.defs.onnx_opset_version()) + 1)
# Of the symbolic axes after the batch: no two, nor their sums, are alike in both runs.
PROBE_LENGTHS = [(101, 211), (307, 503), (709, 907), (1009, 2003)]


@dataclass(frozen=True)
class Input:
    """An input of the graph, in place of an array among a function's arguments.

    Parameters
    ----------
    shape : sequence of int or str
        A number fixes a length, a name makes the axis symbolic. The first name met is the
        batch axis: along it rows must not meet (no reduction, no indexing). A sum of names that
        other inputs have, `past + sequence`, is as long as both.
    dtype : dtype
        Element type.
    name : str, optional
        Its name in the graph; by default, that of the function's parameter.
    """

    shape: Sequence[int | str]
    dtype: Any
    name: str | None = None


class Tracer(NDArrayOperatorsMixin):
    """Stands for an array while a function is traced."""

    __slots__ = ("probes", "recorder", "value")

    def __init__(self, recorder: Recorder, value: Value, probes: tuple[Any, ...]) -> None:
        self.recorder = recorder
        self.value = value
        self.probes = probes

    @property
    def shape(self) -> Shape:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return len(self.value.shape)

    @property
    def T(self) -> Any:  # noqa: N802
        return np.transpose(self)

    def __getitem__(self, key: Any) -> Any:
        return self.recorder.call(operator.getitem, (self, key), {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # how Python and NumPy ask what an object can do
        if name not in METHODS:
            raise TraceError(
                f"no ONNX row for the method {name} of arrays; expected one of "
                f"{', '.join(sorted(METHODS))}. Write it with NumPy functions that have a row."
            )
        return functools.partial(self._method, name)

    def _method(self, name: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return METHODS[name](self, *args, **kwargs)
        except TypeError as e:
            raise TraceError(
                f"the method {name}: {e}. Call it without that argument, or call np.{name}."
            ) from e

    def __repr__(self) -> str:
        return f"Tracer({self.value})"

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            raise TraceError(
                f"{ufunc.__name__}.{method} has no ONNX row; expected a plain call. "
                "Write np.sum, np.max or another reduction with a row."
            )
        if "out" in kwargs:
            self._refuse_write()
        return self.recorder.call(ufunc, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if kwargs.get("out") is not None:
            self._refuse_write()
        if function in QUERIES and not kwargs and len(args) == 1:
            return QUERIES[function](self)
        return self.recorder.call(function, args, kwargs)

    def __composite__(self, composite: Any, args: Any, kwargs: Any) -> Any:
        return self.recorder.call_composite(composite, args, kwargs)

    def _refuse_write(self, *_: object) -> NoReturn:
        raise TraceError(
            f"in-place write involving {self.value}; a graph has no memory to write to. Write "
            "`x = x + y` instead of `x += y` or out=, and np.where or np.concatenate instead of "
            "`x[i] = y`."
        )

    def _refuse_value(self, *_: object, **__: object) -> NoReturn:
        raise TraceError(
            f"the value of {self.value} is asked for (if, while, int(), float(), np.array() or "
            "an index into a plain array), which is unknown while tracing. Write np.where "
            "instead of `if`, and pass arrays that are indexed or combined with it as arguments "
            "of the traced function."
        )

    def _refuse_loop(self) -> NoReturn:
        raise TraceError(
            f"len() of, or a loop over, {self.value}; expected operations on whole arrays. "
            "Write x.shape[0] for the length, and index or broadcast instead of the loop."
        )

    __setitem__ = __delitem__ = _refuse_write
    __bool__ = __index__ = __int__ = __float__ = __complex__ = __array__ = _refuse_value
    __round__ = _refuse_value
    __contains__ = _refuse_value
    __len__ = __iter__ = _refuse_loop
    __hash__ = object.__hash__


# What a function asks about an array, not of it.
QUERIES: dict[Callable[..., Any], Callable[[Tracer], Any]] = {
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x: math.prod(x.shape),
}


def trace(
    function: Callable[..., Any],
    *specs: Any,
    target: str = "portable",
    opset: int = DEFAULT_OPSET,
    outputs: Sequence[str] | None = None,
    expanded: Sequence[Callable[..., Any]] = (),
) -> Graph:
    """Record what a NumPy function does with its arguments as a graph.

    Parameters
    ----------
    function : callable
        Any function of supported NumPy operations. It is called once.
    *specs
        Its arguments, by position. `Input` stands for an input of the graph; arrays, also
        inside dicts and lists, become weights named by their place (`blocks.0.ln_1.g`);
        anything else is passed as it is.
    target : str
        What composites become: `primitives` (their bodies), `portable` (standard operators),
        `onnxruntime` (also its contrib operators).
    opset : int
        Version of ONNX's operator set.
    outputs : sequence of str, optional
        Names of the results; by default the function's name, numbered where it has several.
    expanded : sequence of callable
        Composites to record by their bodies, though the target has an operator for them.

    Returns
    -------
    Graph

    Raises
    ------
    TraceError
        Where the function holds something that cannot become a graph: a function or keyword
        without a row, control flow on values, a float64 result in a float32 model, a
        reduction over the batch axis, an in-place write, a zero-length axis.

    Examples
    --------
    >>> print(trace(lambda x: x * 2, Input(["batch", 3], np.float32, "x"), outputs=["y"]))
    <lambda>(x float32 [batch, 3])
      y = Mul(x, constant.0)
      return y float32 [batch, 3]
    """
    check_opset(opset)
    name = getattr(function, "__name__", "graph")
    graph = Graph(name, opset)
    composites = {
        composite: row
        for composite, row in composites_of(target, opset).items()
        if composite not in expanded
    }
    recorder = Recorder(graph, PRIMITIVES, composites, Tracer)
    arguments = _Arguments(recorder, specs)
    result = function(*map(arguments.argument, _parameter_names(function, len(specs)), specs))
    results = list(result) if isinstance(result, (tuple, list)) else [result]
    _name_outputs(recorder, results, outputs or _output_names(name, len(results)))
    graph.prune()
    return graph


def check_opset(opset: int) -> None:
    """Raise TraceError where there are no rows for an opset."""
    if opset not in OPSETS:
        raise TraceError(f"opset {opset}: expected {OPSETS[0]} to {OPSETS[-1]}. Pass one of those.")


class _Arguments:
    """Turns the specs of a trace into tracers: inputs and weights."""

    def __init__(self, recorder: Recorder, specs: Sequence[Any]) -> None:
        self._recorder = recorder
        self._weights: dict[int, Tracer] = {}  # by id(), so that a shared array is stored once
        names = [
            length
            for spec in specs
            for _, leaf in tree.leaves(spec)
            if isinstance(leaf, Input)
            for length in leaf.shape
            if isinstance(length, str) and PLUS not in length
        ]
        symbols = list(dict.fromkeys(names))
        if len(symbols) - 1 > len(PROBE_LENGTHS):
            raise TraceError(
                f"{len(symbols)} symbolic axes ({', '.join(symbols)}); expected at most "
                f"{len(PROBE_LENGTHS) + 1}. Fix the length of some."
            )
        self._runs = 1 if len(symbols) <= 1 else 2
        lengths = [(0, 0), *PROBE_LENGTHS]
        self._dims = {
            symbol: Dim([symbol], lengths[position][: self._runs])
            for position, symbol in enumerate(symbols)
        }

    def argument(self, name: str, spec: Any) -> Any:
        return tree.tree_map(self._leaf, spec, name)

    def _leaf(self, path: str, leaf: Any) -> Any:
        if isinstance(leaf, Input):
            return self._input(leaf.name or path, leaf)
        if isinstance(leaf, np.ndarray):
            return self._weight(path, leaf)
        if isinstance(leaf, tuple) and any(isinstance(x, (Input, np.ndarray)) for x in leaf):
            raise TraceError(
                f"argument {path} is a tuple with an Input or an array in it; expected a list or "
                "dict. Write list(...)."
            )
        return leaf

    def _claim(self, name: str) -> None:
        if not name or name in self._recorder.taken:
            raise TraceError(
                f"two inputs or weights are called {name!r}; expected a name for each. "
                "Name the Input, or rename a key."
            )
        self._recorder.taken.add(name)

    def _input(self, name: str, spec: Input) -> Tracer:
        shape: list[Length] = [
            self._length(name, length) if isinstance(length, str) else length
            for length in spec.shape
        ]
        if not all(type(n) is str or (type(n) is int and n > 0) for n in spec.shape):
            raise TraceError(
                f"input {name}: shape {list(spec.shape)}; expected whole numbers from 1 (a "
                "zero-length axis would be taken for the batch) and names. Mend the Input."
            )
        try:
            dtype = np.dtype(spec.dtype)
        except TypeError as e:
            raise TraceError(f"input {name}: {e}; expected a NumPy type.") from None
        check_dtype(dtype, f"input {name}")
        self._claim(name)
        value = Value(name, dtype, tuple(shape))
        self._recorder.graph.inputs.append(value)
        self._recorder.allow_float64 |= value.dtype == np.float64
        probes = [
            np.zeros(shape_in_run(value.shape, run), value.dtype) for run in range(self._runs)
        ]
        return Tracer(self._recorder, value, tuple(probes))

    def _length(self, name: str, length: str) -> Length:
        try:
            return functools.reduce(operator.add, (self._dims[part] for part in length.split(PLUS)))
        except KeyError as e:
            raise TraceError(
                f"input {name}: the axis `{length}` names {e}, which no input has; expected a sum "
                "of axes that others have. Mend the Input."
            ) from None

    def _weight(self, path: str, array: Any) -> Tracer:
        as_array(array)
        if array.size == 0:
            raise TraceError(
                f"weight {path}: shape {list(array.shape)} has a zero-length axis; expected at "
                "least one element. Leave it out."
            )
        if id(array) not in self._weights:
            self._claim(path)
            self._recorder.graph.weights[path] = array
            self._recorder.allow_float64 |= array.dtype == np.float64
            value = Value(path, array.dtype, array.shape)
            self._weights[id(array)] = Tracer(self._recorder, value, (array,) * self._runs)
        return self._weights[id(array)]


def _parameter_names(function: Callable[..., Any], count: int) -> list[str]:
    """A name for each positional argument: the parameter's, where the function tells."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some of NumPy's own functions have no signature
        parameters = []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [*named[:count], *(f"arg{position}" for position in range(len(named), count))]


def _output_names(name: str, count: int) -> list[str]:
    stem = name if name.isidentifier() else "output"
    return [stem] if count == 1 else [f"{stem}_{position}" for position in range(count)]


def _name_outputs(recorder: Recorder, results: Sequence[Any], names: Sequence[str]) -> None:
    """Give the results their names in the graph."""
    graph = recorder.graph
    if not results:
        raise TraceError("the function returns nothing; expected an array or several.")
    if len(results) != len(names) or len(set(names)) != len(names):
        raise TraceError(
            f"{len(results)} results and the output names {list(names)}; expected one name each."
        )
    made = {output for node in graph.nodes for output in node.outputs}
    taken = recorder.taken | made | {""}
    renamed: dict[str, str] = {}
    for result, name in zip(results, names, strict=True):
        if name in taken:
            raise TraceError(f"an output and another value are both called {name!r}. Rename it.")
        if not is_tracer(result):
            result = _constant_result(recorder, result)  # noqa: PLW2901
        recorder.operand(result)  # refuses one of another trace
        source = result.value
        if source.name in made and source.name not in renamed:
            renamed[source.name] = name
        else:  # an input itself, a weight, a constant, or a result that is returned twice
            graph.nodes.append(
                Node("Identity", (renamed.get(source.name, source.name),), (name,), {})
            )
        graph.outputs.append(Value(name, source.dtype, source.shape))
    graph.nodes = [
        Node(
            node.op,
            tuple(renamed.get(i, i) for i in node.inputs),
            tuple(renamed.get(o, o) for o in node.outputs),
            node.attributes,
            node.domain,
        )
        for node in graph.nodes
    ]
    graph.values = {
        renamed.get(key, key): Value(renamed.get(key, key), value.dtype, value.shape)
        for key, value in graph.values.items()
    }


def _constant_result(recorder: Recorder, result: Any) -> Tracer:
    try:
        array = as_array(result)
    except (TraceError, ValueError, TypeError):
        raise TraceError(
            f"the function returns {type(result).__name__}; expected an array, or a tuple or "
            "list of arrays."
        ) from None
    return Tracer(recorder, Value(recorder.constant(array), array.dtype, array.shape), (array,))
