"""A trace under way: NumPy answers for shapes and types, a table for the operators.

Every traced value carries probes: real arrays, one for each run, in which a symbolic axis
has a length of its own (0 for the batch axis, so that a probe costs nothing). NumPy carries
out each call on the probes; what comes back says shape and dtype, and what raises is an
error of the traced function. Nothing here infers a shape by hand that NumPy does not confirm.
"""

import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .dims import Dim, Shape, identify, length_in_run
from .errors import TraceError
from .graph import ONNX_DOMAIN, Graph, Node, Value

# (recorder, *the call's arguments) -> the result: its name, the names of several, or a tracer
# where the row only says the same with other functions. A composite's row may return None: it
# does not apply to these arguments.
Row: TypeAlias = Callable[..., Any]
Table: TypeAlias = Mapping[Callable[..., Any], Row]

SCALARS = (bool, int, float)  # exactly these: np.float64 is a float, and not weak


class Recorder:
    """Turns calls on tracers into nodes of a graph.

    Parameters
    ----------
    graph : Graph
        Where the nodes go.
    primitives : table
        A row for each NumPy function.
    composites : table
        A row for each function of ours that the target has an operator for.
    tracer : callable
        Makes a tracer from `(recorder, value, probes)`.
    """

    def __init__(
        self, graph: Graph, primitives: Table, composites: Table, tracer: Callable[..., Any]
    ) -> None:
        self.graph = graph
        self.opset = graph.opset
        self.allow_float64 = False
        self._primitives = primitives
        self._composites = composites
        self._tracer = tracer
        self._constant_names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._node_names: dict[tuple[Any, ...], list[str]] = {}
        self._count = 0
        self.taken: set[str] = set()  # names that no node or constant may have

    # What the traced function calls.

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """One call of a NumPy function that has a tracer among its arguments."""
        row = self._primitives.get(function)
        if row is None:
            raise TraceError(
                f"no ONNX row for {label(function)}; expected one of the functions in "
                "exporter/primitives. Write it with those, or add a row."
            )
        try:
            inspect.signature(row).bind(self, *args, **kwargs)
        except TypeError as e:
            raise TraceError(
                f"{label(function)}: {e}; its ONNX row takes "
                f"{_parameters(row)}. Write it without that argument."
            ) from None
        try:
            result = row(self, *args, **kwargs)
        except TraceError:
            raise
        except Exception as e:
            raise TraceError(
                f"{label(function)}: {e}. Its ONNX row does not take these arguments; "
                "mend the call, or write it with other functions."
            ) from e
        return result if is_tracer(result) else self._wrap(function, result, args, kwargs)

    def call_composite(self, composite: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """One call of a function of ours: by the target's row, or else by its body."""
        body = composite.__wrapped__  # type: ignore[attr-defined]
        row = self._composites.get(composite)
        names = None if row is None else row(self, *args, **kwargs)
        return body(*args, **kwargs) if names is None else self._wrap(body, names, args, kwargs)

    # What the rows of the tables call.

    def node(self, op: str, *inputs: str, domain: str = ONNX_DOMAIN, **attributes: Any) -> str:
        """Append a node with one output, and return the output's name."""
        return self.nodes(op, *inputs, outputs=1, domain=domain, **attributes)[0]

    def nodes(
        self, op: str, *inputs: str, outputs: int, domain: str = ONNX_DOMAIN, **attributes: Any
    ) -> list[str]:
        """Append a node with several outputs, and return their names.

        What was computed before is not computed again.
        """
        key = (op, inputs, outputs, domain, repr(attributes))
        if key not in self._node_names:
            names = [self._fresh(op.lower()) for _ in range(outputs)]
            self._node_names[key] = names
            self.graph.nodes.append(Node(op, inputs, tuple(names), attributes, domain))
        return self._node_names[key]

    def operand(self, value: Any, dtype: Any = None) -> str:
        """The name of an argument, cast to `dtype` where that is given."""
        if is_tracer(value):
            if value.recorder is not self:
                raise TraceError(
                    f"{value.value} comes from another trace; expected values of this one. "
                    "Do not keep what a traced function computes: pass it, or compute it again."
                )
            if dtype is None or value.dtype == dtype:
                return str(value.value.name)
            return str(self.node("Cast", value.value.name, to=np.dtype(dtype)))
        return self.constant(as_array(value, dtype))

    def ints(self, *values: int) -> str:
        """A constant int64 vector, as operators take axes and shapes."""
        return self.constant(np.array(values, dtype=np.int64))

    def length(self, dim: Dim) -> str | None:
        """The length of a symbolic axis, int64 [1], where it follows from those of inputs."""
        name = self.ints(dim.coefficient)
        for symbol in dim.symbols:
            found = self._input_length(symbol)
            if found is None:
                return None
            name = found if name == self.ints(1) else self.node("Mul", name, found)
        return name

    def _input_length(self, symbol: str) -> str | None:
        for value in self.graph.inputs:
            for axis, length in enumerate(value.shape):
                if isinstance(length, Dim) and length.name == symbol:
                    return self.shape_part(value.name, axis)
        return None

    def shape_part(self, name: str, axis: int) -> str:
        """The length of one axis of a value, int64 [1]."""
        if self.opset >= 15:
            return self.node("Shape", name, start=axis, end=axis + 1)
        return self.node("Gather", self.node("Shape", name), self.ints(axis), axis=0)

    def constant(self, array: Any) -> str:
        """The name of a constant; equal constants are stored once."""
        if 0 in array.shape:
            raise TraceError(
                f"a constant of shape {list(array.shape)} has a zero-length axis; expected at "
                "least one element. Leave the empty part out of the function."
            )
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constant_names:
            count = itertools.count(len(self._constant_names))
            name = next(n for i in count if (n := f"constant.{i}") not in self.taken)
            self.taken.add(name)
            self._constant_names[key] = name
            # A copy: the function may go on to write into its array.
            self.graph.constants[name] = np.array(array, order="C")
        return self._constant_names[key]

    # Results.

    def _wrap(self, function: Callable[..., Any], names: Any, args: Any, kwargs: Any) -> Any:
        """Tracers for a call's results, typed by what NumPy makes of the probes."""
        operands = [leaf for leaf in _walk((args, kwargs)) if is_tracer(leaf)]
        runs = len(operands[0].probes)
        results = [self._probe(function, args, kwargs, run) for run in range(runs)]
        # Lengths that the call itself names come first: reshape may make new ones.
        dims = [leaf for leaf in _walk((args, kwargs)) if isinstance(leaf, Dim)]
        dims += [length for x in operands for length in x.shape if isinstance(length, Dim)]
        if isinstance(results[0], (list, tuple)):
            return type(results[0])(
                self._result(function, name, parts, dims, operands)
                for name, parts in zip(names, zip(*results, strict=True), strict=True)
            )
        return self._result(function, names, results, dims, operands)

    def _probe(self, function: Callable[..., Any], args: Any, kwargs: Any, run: int) -> Any:
        args, kwargs = _substitute(args, run), _substitute(kwargs, run)
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return function(*args, **kwargs)
        except Exception as e:
            raise TraceError(
                f"{label(function)}: {e}. NumPy refuses this call for shapes or types; "
                "mend the function as for arrays."
            ) from e

    def _result(
        self, function: Any, name: str, probes: Any, dims: list[Dim], operands: list[Any]
    ) -> Any:
        probes = tuple(np.asarray(probe) for probe in probes)
        dtype = probes[0].dtype
        if dtype == np.float64 and not self.allow_float64:
            raise TraceError(
                f"{label(function)} gives float64 from "
                f"{', '.join(str(x.dtype) for x in operands)}; expected float32 to stay float32. "
                "Look for a NumPy float64 (np.sqrt of a number, an array without dtype) or a "
                "division of integers: use math.sqrt, a Python float, or .astype(np.float32)."
            )
        check_dtype(dtype, f"the result of {label(function)}")
        shape = self._shape(function, probes, dims, operands)
        value = Value(name, dtype, shape)
        self.graph.values[name] = value
        return self._tracer(self, value, probes)

    def _shape(
        self, function: Any, probes: tuple[Any, ...], dims: list[Dim], operands: list[Any]
    ) -> Shape:
        shape = []
        for lengths in zip(*(probe.shape for probe in probes), strict=True):
            length = identify(lengths, dims)
            if length is None:
                raise TraceError(
                    f"{label(function)}: an axis of its result has a length that is neither "
                    "fixed nor that of an input's axis (zero-length axes are not supported); "
                    "expected shapes of inputs, their sums, or numbers. Reshape it otherwise."
                )
            shape.append(length)
        empty = [sum(n == 0 for n in x.probes[0].shape) for x in operands]
        if sum(n == 0 for n in probes[0].shape) > max(empty):
            raise TraceError(
                f"{label(function)} makes a zero-length axis, or pairs the rows of a batch with "
                "each other; expected non-empty axes and rows that do not meet. Slice or "
                "broadcast it otherwise."
            )
        return tuple(shape)

    def _fresh(self, stem: str) -> str:
        while True:
            self._count += 1
            if (name := f"{stem}_{self._count}") not in self.taken:
                return name


def as_array(value: Any, dtype: Any = None) -> npt.NDArray[Any]:
    """An operand that is no tracer, as an array that a graph can hold."""
    if isinstance(value, np.ndarray) and type(value) not in (np.ndarray, np.memmap):
        raise TraceError(
            f"an operand is a {type(value).__name__}, whose meaning a graph cannot keep; expected "
            "a plain array. Pass np.asarray of it, or its parts."
        )
    array = np.asarray(value, dtype=dtype)
    check_dtype(array.dtype, "an operand")
    return array


def check_dtype(dtype: np.dtype[Any], what: str) -> None:
    if dtype.kind not in "biuf" or dtype.itemsize > 8 or not dtype.isnative:
        raise TraceError(
            f"{what} has type {dtype}; expected booleans, integers or floats of up to 64 bits, in "
            "native byte order. Convert it with .astype."
        )


def is_tracer(value: Any) -> bool:
    return hasattr(type(value), "__composite__")


def label(function: Any) -> str:
    """How an error calls a function."""
    name = getattr(function, "__name__", str(function))
    return {"getitem": "x[...]"}.get(name, name)


def _parameters(row: Row) -> str:
    return ", ".join(list(inspect.signature(row).parameters)[1:])


def _walk(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        yield from _walk(tuple(tree.values()))
    elif isinstance(tree, (list, tuple)):
        for child in tree:
            yield from _walk(child)
    elif isinstance(tree, slice):
        yield from (tree.start, tree.stop, tree.step)
    else:
        yield tree


def _substitute(tree: Any, run: int) -> Any:
    """The same arguments with a probe for each tracer and a number for each Dim."""
    if isinstance(tree, dict):
        return {key: _substitute(child, run) for key, child in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_substitute(child, run) for child in tree)
    if isinstance(tree, slice):
        return slice(*(_substitute(part, run) for part in (tree.start, tree.stop, tree.step)))
    if isinstance(tree, Dim):
        return length_in_run(tree, run)
    return tree.probes[run] if is_tracer(tree) else tree
