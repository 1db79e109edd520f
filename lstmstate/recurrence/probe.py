"""Evaluation of parts of a graph on made-up values, for shapes and dependences."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np

from lstmstate.checkpoint import dtypes
from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.errors import (
    CorruptError,
    LstmstateError,
    MissingFileError,
    NotFoundError,
    UnsupportedError,
)
from lstmstate.graph.evaluate import Environment, Plan, Scope, compile_plan, is_source
from lstmstate.graph.operations import constant_array
from lstmstate.graph.tensors import Tensor, ahead, data_inputs, input_at, node_at, past
from lstmstate.recurrence.data_path import origins
from lstmstate.recurrence.sequence_ends import Straight, ends, turning_lengths

OPEN = 2  # the size used for an unknown size of a placeholder, for batch and time alike
_LARGEST = 1 << 24  # elements of a made-up array

Sizes = tuple[int | None, ...]
_PASSES_INPUTS = frozenset({"Identity", "Cast", "StopGradient", "Enter"})
_LOOKUPS = frozenset({"Gather", "GatherV2", "ResourceGather"})
_SCATTERS = frozenset({"TensorArrayScatter", "TensorArrayScatterV2", "TensorArrayScatterV3"})
_FAR = 40  # operations that pass on a placeholder


class Fed:
    """A tensor at which data enters a graph: a placeholder, or an output of a queue.

    Attributes:
        is_lengths: whether it takes sequence lengths.
    """

    is_lengths = False

    def __init__(self, tensor: Tensor, kind: int | None, sizes: Sizes | None) -> None:
        found = dtypes.by_number(kind or 1)
        self.tensor = tensor
        self.sizes = sizes
        self.dtype = found.storage if found.name != "bfloat16" else "f4"

    @classmethod
    def of(cls, node: Node) -> Fed:
        """Return a placeholder, with or without a default."""
        return cls(Tensor(node.name), node.number_of_type("dtype"), node.shape())

    @property
    def is_state(self) -> bool:
        """Whether a state can be fed here."""
        return np.dtype(self.dtype or "f4").kind == "f" and self.sizes != ()

    def value(
        self, sizes: Sequence[int] = (), open_size: int = OPEN, length: int | None = None
    ) -> Any:
        """Return a value of the static shape; unknown sizes take the next of `sizes`.

        Integers are 1, which is a valid index; floats are 1 if single, as keep_prob is, and 0.5
        in arrays. Lengths are `length`, or `open_size`.
        """
        kind = np.dtype(self.dtype or "f4")
        given = iter(sizes)
        shape = [next(given, open_size) if size is None else size for size in self.sizes or ()]
        if np.prod(shape, dtype=np.float64) > _LARGEST:
            problem = f"a placeholder of shape {shape} is too large"
            raise UnsupportedError(problem, tensor=self.tensor.node)
        value = 0.5 if kind.kind == "f" and shape else 0 if kind.kind == "b" else 1
        value = (length or open_size) if self.is_lengths else value
        return np.full(shape, value, kind)


def fed_tensors(scope: Scope, width: int | None = None) -> dict[Tensor, Fed]:
    """Return the tensors at which data enters a graph.

    Args:
        width: the width of the vectors of sequences, for placeholders without a shape.
    """
    found: list[Fed] = []
    for node in scope.nodes.values():
        if node.op.startswith("Placeholder") and is_source(node):
            shape = node.shape()
            sizes = _find_unknown_shape(scope, node, width) if shape is None else shape
            found.append(Fed(Tensor(node.name), node.number_of_type("dtype"), sizes))
        elif is_source(node):
            found += [
                Fed(Tensor(node.name, port), kind, sizes)
                for port, (kind, sizes) in enumerate(node.outputs())
            ]
    return {one.tensor: one for one in found}


def _find_fed_reshapes(scope: Scope, fed: Mapping[Tensor, Fed]) -> Iterator[Fed]:
    """Yield the results of reshapes whose sizes are fed as several numbers, as batch and steps.

    Numbers that fit each other are unknown: the results are made up instead.
    """
    for node in scope.nodes.values():
        shape = input_at(scope.nodes, node, 1)
        if node.op == "Reshape" and shape.op == "Pack":
            constants = [node_at(scope.nodes, one).constant() for one in data_inputs(shape)]
            sizes = [None if one is None else int(one.scalar or -1) for one in constants]
            numbers = [one for one in data_inputs(shape) if one in fed]
            is_known = len(numbers) == sizes.count(None) and -1 not in sizes
            if len(numbers) > 1 and is_known:
                yield Fed(Tensor(node.name), node.number_of_type("T"), tuple(sizes))


def _make_up_weights(variable: Callable[[Node], Any]) -> Callable[[Node], Any]:
    """Return the values of variables, with made-up ones for arrays of floats.

    A probe looks at shapes and dependences, which weights of zeros, NaN or huge numbers hide. Their
    arrays need not be there either: a converted state is stored under other names, and a data file
    may be damaged or missing. A computation with such a variable is still refused.
    """

    made: dict[str, Any] = {}

    def value(node: Node) -> Any:
        with suppress(NotFoundError):
            zeros = _make_zeros(node)
            if zeros.ndim and zeros.dtype.kind == "f":
                if node.name not in made:
                    random = np.random.default_rng(list(node.name.encode("utf-8", "replace")))
                    values = random.random(zeros.shape, np.float32) / np.float32(8)
                    made[node.name] = values.astype(zeros.dtype, copy=False)
                return made[node.name]
        try:
            return variable(node)
        except (CorruptError, NotFoundError) as error:
            is_stored = isinstance(error, (CorruptError, MissingFileError))
            if len(node.shape() or ()) < (1 if is_stored else 2):
                raise
            return _make_zeros(node)

    return value


def _make_zeros(node: Node) -> Any:
    """Return zeros in the shape of a variable.

    Raises:
        NotFoundError: the shape is unknown, or too large.
    """
    sizes = node.shape()
    shape = [size for size in sizes or () if size is not None]
    if sizes is None or len(shape) < len(sizes) or math.prod(shape) > _LARGEST:
        raise NotFoundError("the graph has no value for this variable", tensor=node.name)
    return np.zeros(shape, dtypes.by_number(node.number_of_type("dtype") or 1).storage)


class Probe:
    """A graph with made-up values for all its inputs.

    Args:
        variable: returns the value of a variable's node.
        open_size: the size used for an unknown size of a placeholder.
        width: the width of the vectors of sequences; see `fed_tensors`.
    """

    def __init__(
        self,
        scope: Scope,
        variable: Callable[[Node], Any],
        open_size: int = OPEN,
        width: int | None = None,
    ) -> None:
        self.scope = scope
        self._open = open_size
        self._length: int | None = None
        self.environment = Environment(_make_up_weights(variable))
        self._fed = fed_tensors(scope, width)
        self._known: dict[Tensor, Any] = {}
        self._fed |= {one.tensor: one for one in _find_fed_reshapes(scope, self._fed)}
        self.ends = ends(scope)
        for tensor in self._find_lengths():
            node = scope.nodes[tensor.node]
            if node.op == "PlaceholderWithDefault":
                self._fed[tensor] = Fed(tensor, node.number_of_type("dtype"), node.shape())
        for tensor in self._find_vectors(self._find_lengths()):
            self._fed[tensor].is_lengths = True

    def _find_lengths(self) -> list[Tensor]:
        """Return the tensors that may be sequence lengths."""
        found = [tensor for end in self.ends.values() for tensor in end.lengths]
        return list(dict.fromkeys([*found, *turning_lengths(self.scope)]))

    def _find_vectors(self, tensors: Collection[Tensor]) -> list[Tensor]:
        """Return the inputs behind some tensors that take a vector, or have an unknown shape."""
        sources = origins(self.scope.nodes, tensors, {}).sources if tensors else ()
        fed = {*tensors, *(Tensor(node.name) for node in sources)} & self._fed.keys()
        sizes = {one: self._fed[one].sizes for one in fed}
        return [one for one, shape in sizes.items() if shape is None or len(shape) == 1]

    @cached_property
    def lengths(self) -> dict[Tensor, str]:
        """The tensors for sequence lengths, with their types."""
        found = {}
        for tensor in self._find_lengths():
            with suppress(LstmstateError):
                (value,) = self.values([tensor])
                if np.ndim(value) == 1 or tensor in self._find_vectors([tensor]):
                    found[tensor] = value.dtype.str[1:]
        return found

    @property
    def fed_ends(self) -> list[Tensor]:
        """The comparisons of a step's number with lengths that come from inputs alone."""
        sources = {tensor for tensor in self._fed if is_source(self.scope.nodes[tensor.node])}
        return [Tensor(name) for name, end in self.ends.items() if sources.issuperset(end.lengths)]

    @cached_property
    def straight(self) -> Straight:
        """The graph without branches for sequences that have ended."""
        ended = {
            name: end.before
            for name, end in self.ends.items()
            if end.is_apart and not self.lengths.keys().isdisjoint(end.lengths)
        }
        return Straight(self.scope, ended)

    def _with(self, **changes: Any) -> Probe:
        """Return a probe with some attributes of its own; it keeps no values of this one."""
        other = copy(self)
        vars(other).update(_known={}, **changes)
        return other

    def on_straight(self) -> Probe:
        """Return a probe of the graph without branches for sequences that have ended."""
        return self._with(scope=self.straight.scope)

    def with_open(self, size: int) -> Probe:
        """Return a probe with another size for unknown sizes."""
        return self._with(_open=size)

    def with_lengths(self, length: int) -> Probe:
        """Return a probe with this length for all sequences."""
        return self._with(_length=length)

    def of_shapes(self, size: int) -> Probe:
        """Return a probe with another size for unknown sizes, and zeros for all variables."""
        return self._with(_open=size, environment=Environment(_make_zeros))

    def given(self, known: Mapping[Tensor, Any]) -> Probe:
        """Return a probe with given values for some tensors instead of computed ones."""
        other = self._with()
        other._known |= known
        return other

    @cached_property
    def unpacked(self) -> list[int]:
        """The numbers of parts into which the graph unpacks tensors."""
        counts = (
            node.number("num")
            for node in self.scope.nodes.values()
            if node.op == "Unpack" and not self.scope.is_inner(node.name)
        )
        return [count for count in dict.fromkeys(counts) if count]

    @property
    def rows(self) -> set[int]:
        """The first sizes of the inputs, if the graph fixes them."""
        return {one.sizes[0] for one in self._fed.values() if one.sizes and one.sizes[0]}

    @property
    def fed(self) -> Collection[Tensor]:
        """The tensors at which data enters the graph."""
        return self._fed.keys()

    def is_fed(self, tensor: Tensor) -> bool:
        """Whether data enters the graph at a tensor."""
        return tensor in self._fed

    def fed_at(self, nodes: Iterable[Node]) -> list[Fed]:
        """Return the outputs of some nodes at which a state can be fed."""
        names = {node.name for node in nodes}
        return [one for one in self._fed.values() if one.tensor.node in names and one.is_state]

    def fed_value(self, tensor: Tensor, sizes: Sequence[int]) -> Any:
        """Return a value for an input, with some sizes in place of the unknown ones."""
        return self._fed[tensor].value(sizes)

    def describe(self, tensor: Tensor) -> tuple[Sizes, str]:
        """Return the shape of a tensor, None for an unknown size, and its NumPy type."""
        fed = self._fed.get(tensor)
        if fed is not None and fed.sizes is not None:
            return fed.sizes, fed.dtype or "f4"
        (value,), (other,) = (probe.values([tensor]) for probe in (self, self.with_open(OPEN + 1)))
        sizes = zip(np.shape(value), np.shape(other), strict=False)
        return tuple(one if one == two else None for one, two in sizes), value.dtype.str[1:]

    def turns(self, start: Tensor, end: Tensor) -> bool | None:
        """Whether batch and time are swapped between two tensors; None if they are not kept."""
        fed = self._fed[start].value((OPEN, OPEN + 1))
        plan = self.compile([end])
        others = {
            one: self._fed[one].value((OPEN, OPEN + 1))
            for one in plan.feeds
            if one in self._fed and (self._fed[one].sizes or ())[:2] == (None, None)
        }
        (value,) = self.run(plan, others | {start: fed})
        if np.shape(value)[:2] == np.shape(fed)[:2]:
            return False
        return True if np.shape(value)[:2] == np.shape(fed)[1::-1] else None

    def compile(self, fetches: Iterable[Tensor], feeds: Iterable[Tensor] = ()) -> Plan:
        """Compile a plan that may be fed at all inputs, and at some other tensors."""
        return compile_plan(self.scope, fetches, {*self._fed, *feeds}, self.environment)

    def run(self, plan: Plan, feeds: Mapping[Tensor, Any]) -> list[Any]:
        """Return the fetches of a plan, with made-up values for inputs that are not given."""
        values = {
            tensor: feeds[tensor]
            if tensor in feeds
            else self._fed[tensor].value((), self._open, self._length)
            for tensor in plan.feeds
        }
        return plan.run(values)

    def values(self, tensors: Sequence[Tensor]) -> list[Any]:
        """Return the values of some tensors, and keep them for later calls."""
        given = ChainMap[Tensor, Any](self._known, self._fed)
        plan = compile_plan(self.scope, tensors, given, self.environment)
        found = self.run(plan, self._known)
        self._known |= {
            tensor: value
            for tensor, value in zip(tensors, found, strict=True)
            if isinstance(value, np.ndarray)
        }
        return found


def _find_unknown_shape(scope: Scope, node: Node, width: int | None) -> Sizes | None:
    """Return the shape that the readers of a placeholder require, None if they require none.

    Args:
        width: the width of the vectors of sequences.
    """
    readers = ahead(scope.users, node.name, _PASSES_INPUTS, _FAR)
    sizes = (_infer_shape(scope, user, position, width) for user, position in readers)
    found = [one for one in sizes if one is not None]
    if not found:
        return None
    shape = max(found, key=len)
    last = next((one[-1] for one in [shape, *found] if one[-1] is not None), None)
    return (*shape[:-1], last)


def _infer_shape(scope: Scope, user: Node, position: int, width: int | None) -> Sizes | None:
    """Return the shape that a node requires for one of its inputs."""
    if user.op in _LOOKUPS and position == 1:
        return _infer_from_lookup(scope, user)
    if user.op in _SCATTERS and position == 2:
        return (None, None, width)
    if user.op == "MatMul" and position == 0:
        return _infer_from_product(scope, user)
    if user.op in ("Transpose", "Reshape", "StridedSlice") and position == 0:
        given = _read_integers(scope, data_inputs(user)[1])
        if given and user.op == "Reshape":
            return tuple(None if size < 0 else size for size in given)
        last = width if user.op == "Transpose" else None
        return given and (*[None] * (len(given) - 1), last)
    return _infer_from_parts(scope, user, width)


def _infer_from_product(scope: Scope, user: Node) -> Sizes | None:
    weights = node_at(scope.nodes, past(scope.nodes, data_inputs(user)[1], _PASSES_INPUTS))
    shape = weights.shape() if weights.op in VARIABLE_OPS else None
    if not shape or user.number("transpose_a"):
        return None
    return (None, shape[int(bool(user.number("transpose_b")))])


def _infer_from_lookup(scope: Scope, user: Node) -> Sizes:
    """Return the shape of ids."""
    readers = ahead(scope.users, user.name, _PASSES_INPUTS, _FAR)
    sizes = (_infer_from_parts(scope, after, None) for after, _ in readers)
    return next((one[:2] for one in sizes if one), (None, None))


def _infer_from_parts(scope: Scope, node: Node, width: int | None) -> Sizes | None:
    """Return the shape of the tensor that a node unpacks along its first or second axis."""
    if node.op == "Unpack":
        axis, count = node.number("axis") or 0, node.number("num")
    elif node.op == "Split":
        axes = _read_integers(scope, data_inputs(node)[0])
        axis, count = axes[0] if axes else -1, node.number("num_split")
    else:
        return None
    if axis not in (0, 1):
        return None
    return (None, count, width) if axis else (count, None, width)


def _read_integers(scope: Scope, tensor: Tensor) -> tuple[int, ...] | None:
    node = node_at(scope.nodes, tensor)
    if node.op != "Const":
        return None
    return tuple(int(value) for value in constant_array(node).reshape(-1))
