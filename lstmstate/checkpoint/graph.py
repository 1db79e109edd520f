"""The graph of a checkpoint (`.meta`, `saved_model.pb`, `graph.pbtxt`), as nodes and edges.

It is walked as bytes and never imported: none of its operations is run. Messages:
TensorFlow core/protobuf/{meta_graph,saved_model}.proto, core/framework/{graph,node_def,
attr_value,tensor}.proto (v1.15.0).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import chain, repeat

from lstmstate import limits
from lstmstate.checkpoint import kinds
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.graph_node import Node, NodeReader
from lstmstate.checkpoint.inlining import Arguments, Returns, inline_functions
from lstmstate.checkpoint.op_sets import LEAST_INPUTS
from lstmstate.errors import CorruptError, UnsupportedError, located, printable
from lstmstate.files.budget import Budget
from lstmstate.files.reader import LFS_POINTER, read_whole
from lstmstate.named_tuple import NamedTuple

VARIABLE_OPS = frozenset({"Variable", "VariableV2", "VarHandleOp", "AutoReloadVariable"})
# The numbers of the inputs for keys, slices and the first value in the operations of a Saver.
_SAVE_OPS = {"SaveV2": (1, 2, 3), "SaveSlices": (1, 2, 3), "Save": (1, None, 2)}

# GraphDef.versions.producer → release, for graphs that do not name it (before 0.12).
# Source: core/public/version.h at each tag.
_RELEASES = ((1, "0.5-0.6"), (8, "0.7"), (9, "0.8-0.9"), (11, "0.10"), (15, "0.11"), (17, "0.12"))

# Up to this producer (1.0) a placeholder of the shape [] may have any: see the shape function of
# Placeholder in core/ops/array_ops.cc, v1.15.0.
_PAID_AT_ONCE = 1024  # nodes
_SHAPELESS = 21


class Edge(NamedTuple):
    """One use of an output: which node takes it, as which input, and which output it is."""

    node: Node
    position: int
    port: int


class Graph:
    """Nodes by name, and the uses of their outputs.

    A damaged graph is refused: any operation could be the missing one.

    Attributes:
        nodes: the operations of the graph, and of the functions that it calls.
        tensorflow_version: the release that wrote it, by its own field, or else by its producer
            number; None without either.
        producer: GraphDef.versions.producer.
        library: its functions, a FunctionDefLibrary as bytes.
        trainable: node names of the trainable variables; None if the graph lists none.
        returns: for each node that calls functions, the tensors that each of them returns.
        arguments: for each node that is an argument of a function, the node that calls it, and
            which argument it is.
        damage: the damage of the file after the graph, which itself is whole; None for
            a whole file.
        has_end: whether its GraphDef has what TensorFlow writes behind the nodes. Without it
            nothing shows that a file of nodes alone was not cut between two of them.
    """

    def __init__(self, meta_graph: bytes) -> None:
        self.nodes: dict[str, Node] = {}
        self.producer = 0
        self.library = b""
        self.tensorflow_version: str | None = None
        self.trainable: frozenset[str] | None = None
        self.returns: Returns = {}
        self.arguments: Arguments = {}
        self.damage: str | None = None
        self.has_end = False
        self._steps: int | None = None
        self._budget = Budget(len(meta_graph))
        self._read_node = NodeReader(self._budget).node
        for number, value in self._whole_fields(meta_graph):
            if number == 1:
                version = wire.message(value, self._budget).get(5)
                self.tensorflow_version = wire.text(wire.last_bytes(version)) or (
                    self.tensorflow_version
                )
            elif number == 2:
                self._add_nodes(value)
            elif number == 4:
                self._add_collection(value)
        if self.has_end and self.producer <= _SHAPELESS:
            self._forget_shapes()
        for node in list(
            inline_functions(self.library, self.nodes, self.returns, self.arguments)
            if self.library
            else ()
        ):
            self._add(node)
        self._refuse_gaps()
        self.tensorflow_version = self.tensorflow_version or _release(self.producer)

    def _whole_fields(self, meta_graph: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the fields that are messages, up to where the file is damaged."""
        try:
            for number, _, value in wire.fields(meta_graph, self._budget):
                if isinstance(value, bytes):
                    yield number, value
        except CorruptError as error:
            self.damage = _damage(error)
            within_graph = isinstance(error, wire.CutShortError) and error.number == 2
            if within_graph or not self.nodes:
                raise CorruptError(self.damage) from error

    def _add_nodes(self, graph_def: bytes) -> None:
        """Read a GraphDef: 1 repeated node, 2 library of functions, 4 versions {1 producer}.

        In 0.5 a number, 3, was in the place of the versions.
        """
        nodes, read, seen = self.nodes, self._read_node, 0
        for number, _, value in wire.fields(graph_def, self._budget):
            if number == 1 and isinstance(value, bytes):
                node = read(value)
                if node.op in LEAST_INPUTS:
                    _refuse_missing_inputs(node)
                nodes[node.name] = node
                seen += 1
                if seen == _PAID_AT_ONCE:
                    self._budget.spend(limits.NODES, seen)
                    seen = 0
                continue
            self.has_end = self.has_end or number in (2, 3, 4)
            if number == 2 and isinstance(value, bytes):
                self.library += value
            elif number == 4 and isinstance(value, bytes):
                producer = wire.message(value).get(1)
                self.producer = wire.last_int32(producer, self.producer)

    def _add(self, node: Node) -> None:
        _refuse_missing_inputs(node)
        self.nodes[node.name] = node
        self._budget.spend(limits.NODES)

    def _refuse_gaps(self) -> None:
        """Refuse an input that no operation gives, as TensorFlow does.

        A file can be cut between two nodes.
        """
        nodes = self.nodes
        for node in nodes.values():
            for tensor in node.inputs:
                if tensor not in nodes and self.source(tensor.removeprefix("^"))[0] is None:
                    raise CorruptError(
                        f"it takes {printable(tensor)}, which is not in the graph: the graph "
                        "file is cut short",
                        tensor=printable(node.name),
                    )

    def _forget_shapes(self) -> None:
        """Make the shape of a placeholder unknown if it is `[]`, which meant just that."""
        for node in list(self.nodes.values()):
            if node.op == "Placeholder" and node.shape() == ():
                self.nodes[node.name] = node.without("shape")

    def _add_collection(self, entry: bytes) -> None:
        """Read the collection of trainable variables: VariableDefs, whose field 1 is the name."""
        found = wire.message(entry, self._budget)
        if wire.last_bytes(found.get(1)) != b"trainable_variables":
            return
        collection = wire.message(wire.merge(found.get(2)), self._budget)
        # 2 bytes_list {1 value}
        listed = wire.message(wire.merge(collection.get(2)), self._budget)
        names = (
            wire.text(wire.last_bytes(wire.message(variable).get(1)))
            for variable in wire.all_bytes(listed.get(1))
        )
        self.trainable = frozenset(name.rpartition(":")[0] or name for name in names)

    def spend(self, steps: int = 1) -> None:
        """Count steps along the edges, so that no graph can make a reader walk for ever."""
        if self._steps is None:
            self._steps = limits.WALK_STEPS + limits.WALK_STEPS_PER_NODE * len(self.nodes)
        self._steps -= steps
        if self._steps < 0:
            raise UnsupportedError("the graph is too tangled to be followed")

    def source(self, tensor: str) -> tuple[Node | None, int]:
        """Return the node and the output that an input string such as "a/b:1" names."""
        if ":" not in tensor:
            return self.nodes.get(tensor), 0
        name, port = split_port(tensor)
        return self.nodes.get(name), port

    @cached_property
    def _by_op(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes.values():
            found[node.op].append(node)
        return dict(found)

    @property
    def ops(self) -> Iterable[str]:
        """The operations that there are."""
        return self._by_op

    def of(self, ops: Iterable[str]) -> list[Node]:
        """Return the nodes of some operations, in the order of the graph."""
        there = {op for op in ops if op in self._by_op}
        if len(there) > 1:
            return [node for node in self.nodes.values() if node.op in there]
        return [node for op in there for node in self._by_op[op]]

    @cached_property
    def uses(self) -> dict[str, list[tuple[Node, int]]]:
        """For each node those that take one of its outputs, and as which input."""
        return uses(self.nodes)

    def edges(self, name: str, ops: frozenset[str]) -> list[Edge]:
        """Return the uses of a node's outputs by some operations; none are edges of control."""
        users = self.uses.get(name, ())
        self.spend(len(users))
        return [
            Edge(node, position, split_port(node.inputs[position])[1])
            for node, position in users
            if node.op in ops
        ]

    def saved_names(self) -> Iterator[tuple[str, Node]]:
        """Yield (key in the checkpoint, the node whose value is saved under it).

        A Saver may save a variable under any name, which the operation that saves shows.
        """
        return ((key, node) for key, _, node in self.saved_slices())

    def saved_slices(self) -> Iterator[tuple[str, str, Node]]:
        """Yield a key, the slice that is saved under it ("" for a whole value), and the node."""
        lists: dict[str, list[str]] = {}

        def strings(values: list[Node | None], at: int | None) -> list[str]:
            node = values[at] if at is not None and at < len(values) else None
            if node is None or node.op != "Const":
                return []
            if node.name not in lists:
                lists[node.name] = node.strings()
            return lists[node.name]

        for node in self.of(_SAVE_OPS):
            keys_at, slices_at, first = _SAVE_OPS[node.op]
            values = [self.source(tensor)[0] for tensor in node.inputs if tensor[:1] != "^"]
            slices = chain(strings(values, slices_at), repeat(""))
            self.spend(len(values))
            saved = zip(strings(values, keys_at), slices, values[first:], strict=False)
            yield from ((key, extents, value) for key, extents, value in saved if value)

    def variable_behind(self, node: Node | None) -> Node | None:
        """Return the variable whose value a node passes on, None if there is none near."""
        for _ in range(6):
            if node is None or node.op in VARIABLE_OPS:
                return node
            node = self.source(node.inputs[0])[0] if node.inputs else None
        return None


def uses(nodes: Mapping[str, Node]) -> dict[str, list[tuple[Node, int]]]:
    """Return for each node those that take one of its outputs, and as which input.

    Most are of operations that nobody asks for: no more than needed is made of them here.
    """
    found: dict[str, list[tuple[Node, int]]] = defaultdict(list)
    for node in nodes.values():
        for position, tensor in enumerate(node.inputs):
            if tensor[:1] != "^":
                name = split_port(tensor)[0] if ":" in tensor else tensor
                found[name].append((node, position))
    return dict(found)


def split_port(tensor: str) -> tuple[str, int]:
    """Return the node and the output of an input string; no operation has a million outputs."""
    if ":" not in tensor:
        return tensor, 0
    name, _, port = tensor.rpartition(":")
    if name and port.isascii() and port.isdecimal() and len(port) <= 6:
        return name, int(port)
    return tensor, 0


def read_meta(path: str) -> Graph:
    """Read a `.meta` file, which is a MetaGraphDef, in bytes or as text."""
    return _read(path, "MetaGraphDef")


def parse_meta(data: bytes) -> Graph:
    """Return the graph in the bytes of a `.meta` file, as `read_meta`."""
    return _parse(data, "MetaGraphDef")


def meta_of_text(text: bytes) -> bytes | None:
    """Return a text of a GraphDef as that of a MetaGraphDef, None for other texts."""
    message = _message_of(text)
    if message == "GraphDef":
        return b"graph_def {\n%b\n}\n" % text
    return text if message == "MetaGraphDef" else None


def read_saved_model(path: str) -> Graph:
    """Read the first graph of a SavedModel {1 version, 2 repeated MetaGraphDef}, as `read_meta`."""
    return _read(path, "SavedModel")


def read_graph_def(path: str, *, needs_end: bool = True) -> Graph:
    """Read a GraphDef, which `tf.train.write_graph` writes, as `read_meta`.

    Args:
        needs_end: whether one without an end is damaged. Frozen graphs need none: TensorFlow's
            remove_training_nodes leaves it out.
    """
    return _read(path, "GraphDef", needs_end=needs_end)


def saved_meta_graph(path: str) -> bytes:
    """Return the first MetaGraphDef of a SavedModel, which is in bytes or text."""
    with located(path):
        data = read_whole(path, limits.MAX_GRAPH_BYTES, "a graph")
        written = _message_of(data)
        return _first_graph(_from_text(data, written) if written else data)[0]


def _read(path: str, message: str, *, needs_end: bool = True) -> Graph:
    """Read a graph file; `message` is what one in bytes holds, a text shows it itself."""
    with located(path):
        data = read_whole(path, limits.MAX_GRAPH_BYTES, "a graph")
        return _parse(data, message, needs_end=needs_end)


def _parse(data: bytes, message: str, *, needs_end: bool = True) -> Graph:
    if not data:
        raise CorruptError("the graph file is empty")
    if data.startswith(LFS_POINTER):
        raise UnsupportedError(f"this is {kinds.LFS.words}", advice=kinds.LFS.advice)
    written = _message_of(data)
    if written:
        data, message = _from_text(data, written), written
    elif written is not None and message == "GraphDef":
        raise CorruptError("expected a graph in the graph file, got another text")
    damage = None
    if message == "GraphDef":
        data = wire.bytes_field(2, data)
    elif message == "SavedModel":
        data, damage = _first_graph(data)
    try:
        graph = Graph(data)
    except wire.CutShortError as error:
        raise CorruptError(_damage(error)) from error
    graph.damage = damage or graph.damage
    if not graph.nodes:
        raise CorruptError(damage) if damage else UnsupportedError("it has no graph")
    if message == "GraphDef" and needs_end and not graph.has_end:
        raise CorruptError("the graph file is cut short: it has no versions, which come last")
    return graph


def _message_of(data: bytes) -> str | None:
    """Return which message a text holds, "" for none; None for a file in bytes.

    The first bytes of a file that is cut after a few can look like a text.
    """
    start = data[: kinds.LOOK]
    if not kinds.is_text(start):
        return None
    from lstmstate.checkpoint import text_format

    return text_format.message_of(start) or ""


def _from_text(text: bytes, message: str) -> bytes:
    """Return the bytes of a graph that was written as text."""
    from lstmstate.checkpoint import text_format

    if len(text) > limits.MAX_TEXT_GRAPH_BYTES:
        most = limits.MAX_TEXT_GRAPH_BYTES
        raise UnsupportedError(f"a graph of {len(text)} bytes of text is larger than {most}")
    return text_format.to_wire(text, message)


def _first_graph(saved_model: bytes) -> tuple[bytes, str | None]:
    """Return the first MetaGraphDef of a SavedModel, and the damage of the file after it."""
    try:
        for number, _, value in wire.fields(saved_model):
            if number == 2 and isinstance(value, bytes):
                return value, None
    except CorruptError as error:
        if isinstance(error, wire.CutShortError) and error.number == 2:
            return saved_model[error.start :], _damage(error)
        raise CorruptError(_damage(error)) from error
    raise UnsupportedError("it has no graph")


def _refuse_missing_inputs(node: Node) -> None:
    """Refuse a graph with an operation that has too few inputs, which TensorFlow never writes."""
    expected, found = LEAST_INPUTS.get(node.op, 0), len(node.inputs)
    while found and node.inputs[found - 1].startswith("^"):  # these come last
        found -= 1
    if found < expected:
        raise CorruptError(
            f"expected {expected} inputs of {printable(node.name)} ({node.op}), got {found}"
        )


def _damage(error: CorruptError) -> str:
    """Return the damage of a graph file, in a few words."""
    if not isinstance(error, wire.CutShortError) or error.missing > limits.MAX_GRAPH_BYTES:
        return f"the graph file is damaged ({error.problem})"
    bytes_are = "byte is" if error.missing == 1 else "bytes are"
    missing = f" (at least {error.missing} {bytes_are} missing)" if error.missing else ""
    return f"the graph file is cut short{missing}"


def _release(producer: int) -> str | None:
    """Return the release that wrote graphs of this producer number, up to 0.12."""
    known = [release for number, release in _RELEASES if 0 < number <= producer]
    return known[-1] if known and producer <= _RELEASES[-1][0] else None
