"""LSTM cells as a graph shows them: found by their structure, read by following edges.

The mark of a cell is a product with a kernel, cut into gates, of which one is squashed and
multiplied with the old c and one with the new input. What nodes are called plays no part:
names of nodes differ between releases, and with every unrolled step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lstmstate.cells import trace
from lstmstate.cells.model import UNKNOWN, Option
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph, Node

_SPLITS = {"Split": 1, "SplitV": 0}  # op: which input is cut
_CUT_INPUT = {**_SPLITS, "Slice": 0}
_NORM_OPS = frozenset(
    "Mul Add AddV2 Sub Rsqrt Mean SquaredDifference Reshape RealDiv Cast BiasAdd Identity Sqrt "
    "StopGradient Neg Div FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Select SelectV2".split()
)
_FED = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
_ENTERS = frozenset({"Enter", "RefEnter"})
_CUTS = frozenset({"Split", "SplitV", "Slice", "StridedSlice", "Reshape", "Transpose"})
_PRODUCTS = frozenset({"MatMul", "Conv2D", "Conv3D"})
_RESHAPING = frozenset({"Squeeze", "ExpandDims", "Reshape"})
_CLIPS = frozenset({"Minimum", "Maximum", "ClipByValue"})
_BEFORE_GATES = trace.ADDING | trace.PASSING | trace.JOINING | _RESHAPING
# op: (which input is the weight, c, the default of cell_clip, the order of the gates)
_BLOCKS = {
    "LSTMBlockCell": (3, 1, 3.0, "ijfo"),
    "LSTMFusedCell": (3, 1, 3.0, "ijfo"),
    "BlockLSTM": (4, 2, 3.0, "ijfo"),
    "BlockLSTMV2": (4, 2, 0.0, "ifjo"),
    "FusedLSTM": (4, 2, 3.0, "ijfo"),
}
_CUDNN = {"CudnnRNN": 3, "CudnnRNNV2": 3, "CudnnRNNV3": 3, "CudnnRNNParamsToCanonical": 3}


@dataclass
class Wired:
    """A cell in the graph.

    Attributes:
        kernels: the variables of the product, shards in order; two lists where input and
            recurrent kernel are apart.
        biases: the variables added to the product.
        gate_order: as the structure tells it; None where it does not.
        block: the operation, where one operation is the whole cell.
        steps: how many times the cell stands in the graph.
        frame: the loop that it stands in.
        peephole_attribute: whether a block cell uses its peepholes.
        complete: whether m = o * act(c) was seen too.
        differing: options that two uses of the cell do not share.
        firsts: for each step the nodes that it takes c and m from.
    """

    kernels: tuple[tuple[Node, ...], ...]
    biases: tuple[Node, ...] = ()
    gate_order: str | None = None
    block: str | None = None
    options: dict[str, Option] = field(default_factory=dict)
    steps: int = 1
    firsts: list[tuple[Node | None, Node | None]] = field(default_factory=list)
    frame: str | None = None
    peephole_attribute: bool | None = None
    differing: set[str] = field(default_factory=set)
    complete: bool = True

    @property
    def key(self) -> tuple[str, ...]:
        """What tells this cell from others: its kernels."""
        return tuple(node.name for shards in self.kernels for node in shards)


def wired_cells(graph: Graph) -> list[Wired]:
    """Return the cells of a graph, the steps of an unrolled or reused one as one."""
    cells: dict[tuple[str, ...], Wired] = {}
    for step in _steps(graph):
        known = cells.get(step.key)
        if known is None:
            cells[step.key] = step
        else:
            _merge(known, step)
    return list(cells.values())


def _steps(graph: Graph) -> Iterator[Wired]:
    for node in graph.nodes.values():
        if node.op in _SPLITS:
            step = _split_step(graph, node)
        elif node.op in _BLOCKS:
            step = _block_step(graph, node)
        else:
            continue
        if step is not None and step.kernels:
            yield step


def _merge(known: Wired, step: Wired) -> None:
    """Add another step: what two steps tell differently is not told at all."""
    known.steps += 1
    known.gate_order = known.gate_order or step.gate_order
    for name, option in step.options.items():
        mine = known.options.get(name, UNKNOWN)
        if name in known.differing:
            continue
        if mine.source != "graph":
            known.options[name] = option
        elif option.source == "graph" and option.value != mine.value:
            known.options[name] = Option(None, "graph")
            known.differing.add(name)
    known.firsts += step.firsts


def is_plain_product(graph: Graph, variable: Node) -> bool:
    """Whether a matrix is multiplied with, and the product is not cut apart: a dense layer."""
    passing = frozenset({"Identity", "ReadVariableOp", "Enter", "RefEnter", "Cast"})
    queue = [variable]
    products = []
    for _ in range(60):
        if not queue:
            break
        for edge in graph.edges(queue.pop().name):
            if edge.node.op in passing:
                queue.append(edge.node)
            elif edge.node.op == "MatMul" and edge.position == 1 and not edge.node.number("transpose_b"):
                products.append(edge.node)
    summed = [
        user
        for product in products
        for user in [product, *trace.consumers(graph, product, trace.ADDING)]
    ]
    return bool(products) and not any(
        trace.consumers(graph, value, _CUTS) or trace.consumers(graph, value, trace.JOINING)
        for value in summed
    )


# ---- cells made of small operations


def _split_step(graph: Graph, split: Node) -> Wired | None:
    """Return the step whose gates this node cuts apart, None where it is no cell's."""
    gates = split.number("num_split") or 0
    value = trace.operand(graph, split, _SPLITS[split.op])
    if gates not in (3, 4) or value is None:
        return None
    products, biases = _product(graph, value)
    if not products:
        return None
    kernels = []
    for product in products:
        weight = trace.operand(graph, product, 1)
        shards = tuple(trace.variables(graph, weight)) if weight is not None else ()
        if shards:
            kernels.append(shards)
    wired = Wired(tuple(kernels), biases)
    _read_gates(graph, split, gates, wired, products)
    return wired if wired.gate_order else None


def _product(graph: Graph, value: Node) -> tuple[list[Node], tuple[Node, ...]]:
    """Go back from the gates over sums and joins to the products; return the biases too."""
    products: list[Node] = []
    biases: list[Node] = []
    for node in trace.backward(
        graph,
        [value],
        lambda node: node.op in _BEFORE_GATES,
        60,
    ):
        if node.op in _PRODUCTS:
            products.append(node)
        elif node.op in VARIABLE_OPS:
            biases.append(node)
    return products, tuple(biases)


def _read_gates(
    graph: Graph, split: Node, gates: int, wired: Wired, products: list[Node]
) -> None:
    """Tell the gates apart by what they are multiplied with, and read the options off them.

    c' = f * c + i * j, so of the squashed outputs f is multiplied with what is none of them,
    and its product is added to that of i and j; what remains is o. With i = 1 - f (three
    gates) the other product is (1 - f) * j.
    """
    ends = {port: _squashed(graph, split, port) for port in range(gates)}
    names = {node.name: port for port, found in ends.items() for node in found}
    for f, found in ends.items():
        for forget in (node for node in found if node.op == "Sigmoid"):
            for product in trace.consumers(graph, forget, frozenset({"Mul"})):
                for c_new in trace.consumers(graph, product, frozenset({"Add", "AddV2"})):
                    other = next(
                        (node for node in trace.operands(graph, c_new) if node is not product), None
                    )
                    pair = _new_input(graph, other, names, f, forget)
                    if pair is None:
                        continue
                    i, j = pair
                    rest = [port for port in range(gates) if port not in (i, j, f)]
                    if len(rest) != 1:
                        continue
                    letters = {i: "i", j: "j", f: "f", rest[0]: "o"}
                    if gates == 3:
                        letters = {j: "j", f: "f", rest[0]: "o"}
                    c_old = next(
                        (node for node in trace.operands(graph, product) if node is not forget),
                        None,
                    )
                    if c_old is not None and c_old.name in names:
                        continue  # two gates multiplied: no old state comes in
                    wired.gate_order = "".join(letters[port] for port in range(gates))
                    _read_options(graph, wired, forget, c_old, c_new, ends[rest[0]], products)
                    candidate = ends[j][0] if ends[j] else None
                    if candidate is not None and wired.options.get("activation") is None:
                        wired.options["activation"] = _activation(candidate)
                    return


def _squashed(graph: Graph, split: Node, port: int) -> list[Node]:
    """Return the activations that an output of the split goes into, or else itself.

    On the way lie sums (bias, forget bias, peepholes), joins of groups and layer norm.
    """
    passing = trace.ADDING | _NORM_OPS | trace.JOINING | trace.PASSING
    found: list[Node] = []
    seen: set[str] = set()
    queue = [(split, port)]
    while queue and len(seen) < 200:
        node, wanted = queue.pop(0)
        for edge in graph.edges(node.name):
            if (wanted >= 0 and edge.port != wanted) or edge.node.name in seen:
                continue
            seen.add(edge.node.name)
            if edge.node.op in trace.ACTIVATIONS:
                found.append(edge.node)
            elif edge.node.op in passing and (
                edge.node.op != "Mul" or _normalises(graph, edge.node, node)
            ):
                queue.append((edge.node, -1))
    return found or [split]


def _normalises(graph: Graph, product: Node, value: Node) -> bool:
    """Whether a product scales a value by its own deviation, as layer norm does."""
    return any(
        node.op == "Rsqrt"
        for factor in trace.operands(graph, product)
        if factor is not value
        for node in trace.backward(graph, [factor], lambda node: node.op == "Mul", 6)
    )


def _new_input(
    graph: Graph, other: Node | None, names: dict[str, int], f: int, forget: Node
) -> tuple[int, int] | None:
    """Return the ports of i and j whose product `other` is (i is f's own where it is 1 - f)."""
    if other is None or other.op != "Mul":
        return None
    factors = trace.operands(graph, other)
    if len(factors) != 2:
        return None
    ports = [_port(graph, factor, names) for factor in factors]
    for mine, theirs in ((0, 1), (1, 0)):
        factor = factors[mine]
        if factor.op == "Sub" and trace.operand(graph, factor, 1) is forget:
            j = ports[theirs]
            return None if j is None else (f, j)
    first, second = ports
    if first is None or second is None or f in (first, second) or first == second:
        return None
    if "Sigmoid" not in (factors[0].op, factors[1].op):
        return None
    # i is squashed by a sigmoid; where j is too, the order of TensorFlow's classes decides.
    if factors[0].op != "Sigmoid" and factors[1].op == "Sigmoid":
        first, second = second, first
    elif factors[0].op == factors[1].op:
        first, second = sorted((first, second))
    return first, second


def _port(graph: Graph, factor: Node, names: dict[str, int]) -> int | None:
    """Return the gate that a factor comes from, directly or behind dropout."""
    for node in trace.backward(graph, [factor], lambda node: node.op in _NORM_OPS, 12):
        if node.name in names:
            return names[node.name]
    return None


def _read_options(
    graph: Graph,
    wired: Wired,
    forget: Node,
    c_old: Node | None,
    c_new: Node,
    outputs: list[Node],
    products: list[Node],
) -> None:
    """Read what stands around the new c, and where the old state comes from."""
    wired.options["forget_bias"] = _forget_bias(graph, forget)
    wired.frame = _frame(graph, products[0])
    out = _output(graph, outputs, c_new)
    wired.complete = out is not None
    if out is not None:
        product, squashed, between = out
        wired.options["cell_clip"] = _clip(graph, between)
        if squashed is not None:
            wired.options["activation"] = _activation(squashed)
        wired.options["proj_clip"] = _proj_clip(graph, product)
    if c_old is not None:
        wired.options["state_is_tuple"] = Option(not _is_column_cut(graph, c_old), "graph")
        wired.options["batch_size"] = _batch(graph, c_old)
    m_old = None
    joined = trace.operand(graph, products[0], 0)
    if joined is not None and joined.op in trace.JOINING:
        # The input and m side by side: Concat takes the axis first, ConcatV2 last.
        parts = trace.operands(graph, joined)
        m_old = parts[2 if joined.op == "Concat" else 1] if len(parts) == 3 else None
    wired.firsts.append((c_old, m_old))


def _forget_bias(graph: Graph, forget: Node) -> Option:
    """Return the sum of the constants that are added before the forget gate is squashed."""
    total = 0.0
    queue = trace.operands(graph, forget)[:1]
    while queue:
        node = queue.pop()
        made = trace.through(graph, node)
        value = trace.scalar(graph, node)
        if node.op in ("Add", "AddV2"):
            queue += trace.operands(graph, node)
        elif value is not None:
            total += value
        elif made is not None and (made.op in VARIABLE_OPS or made.op in _FED):
            if made.shape() in ((), None):
                return UNKNOWN  # a number that is fed or learnt, not one of the graph
    return Option(total, "graph")


def _output(
    graph: Graph, outputs: list[Node], c_new: Node
) -> tuple[Node, Node | None, list[Node]] | None:
    """Return o's product with the new c, the activation on c, and the nodes between c and it."""
    for gate in outputs:
        for product in trace.consumers(graph, gate, frozenset({"Mul"})):
            for other in trace.operands(graph, product):
                if other is gate:
                    continue
                squashed = other if other.op in trace.ACTIVATIONS else None
                start = trace.operand(graph, other, 0) if squashed else other
                between = _path_back(graph, start, c_new)
                if between is not None:
                    return product, squashed or other, between
    return None


def _path_back(graph: Graph, start: Node | None, end: Node) -> list[Node] | None:
    """Return the nodes from `start` back to `end` over clips and norms, None if it leads elsewhere."""
    passing = _CLIPS | _NORM_OPS
    found = []
    if start is not None:
        for node in trace.backward(
            graph, [start], lambda node: node is not end and node.op in passing, 40
        ):
            if node is end:
                return found
            found.append(node)
    return None


def _clip(graph: Graph, nodes: list[Node]) -> Option:
    """Return the upper bound of a clip among some nodes; no clip is an answer too."""
    for node in nodes:
        if node.op in ("Minimum", "ClipByValue"):
            bounds = trace.operands(graph, node)[-1:] if node.op == "ClipByValue" else (
                trace.operands(graph, node)
            )
            for bound in bounds:
                value = trace.scalar(graph, bound)
                if value is not None:
                    return Option(value, "graph")
            return UNKNOWN
    return Option(None, "graph")


def _proj_clip(graph: Graph, product: Node) -> Option:
    """Return the clip that follows the projection of m, if m is projected and clipped."""
    for projected in trace.consumers(graph, product, frozenset({"MatMul"})):
        clips = trace.consumers(graph, projected, frozenset({"Minimum", "ClipByValue"}))
        if clips:
            return _clip(graph, clips[:1])
    return Option(None, "graph")


def _activation(node: Node) -> Option:
    return Option(trace.ACTIVATIONS.get(node.op, "identity"), "graph")


# ---- where the state comes from


def _is_column_cut(graph: Graph, state: Node) -> bool:
    """Whether c is cut out of the columns of a wider tensor, as a flat state is.

    LSTMCell takes Slice(state, [0, …], [-1, …]), BasicLSTMCell half of a Split on axis 1; what
    users unstack (StridedSlice, Unpack) is a tuple that lay in one array.
    """
    if state.op == "Slice":
        size = trace.operand(graph, state, 2)
        constant = size.constant() if size is not None else None
        return constant is not None and len(constant.values) == 2 and constant.values[0] < 0
    if state.op in _SPLITS and state.number("num_split") == 2:
        axis = trace.scalar(graph, trace.operand(graph, state, 0 if state.op == "Split" else 2))
        return axis in (1, -1)
    return False


def initial(graph: Graph, state: Node | None) -> tuple[Node | None, bool]:
    """Return what a state is before the first step, and whether columns of it are cut out."""
    cut = False
    node = trace.through(graph, state)
    for _ in range(4):  # a flat state of a stack is cut twice
        if node is None or not _is_column_cut(graph, node):
            break
        cut = True
        node = trace.through(graph, trace.operand(graph, node, _CUT_INPUT.get(node.op, 0)))
    return node, cut


def _batch(graph: Graph, c_old: Node) -> Option:
    """Return the static batch size; value None where it is dynamic."""
    node, _ = initial(graph, c_old)
    if node is None:
        return UNKNOWN
    if node.op == "Fill":
        return _first_size(graph, trace.operand(graph, node, 0))
    if node.op in VARIABLE_OPS or node.op in _FED:
        shape = node.shape()
        return Option(shape[0], "graph") if shape and len(shape) == 2 else UNKNOWN
    if node.op == "Const":
        constant = node.constant_shape()
        return Option(constant[0], "graph") if constant and len(constant) == 2 else UNKNOWN
    return UNKNOWN


def _first_size(graph: Graph, dims: Node | None) -> Option:
    """Return the first number of a shape that a graph puts together."""
    dims = trace.through(graph, dims)
    while dims is not None and dims.op in trace.JOINING:
        parts = trace.operands(graph, dims)
        # Concat takes the axis first, ConcatV2 last, Pack as an attribute.
        dims = trace.through(graph, parts[1 if dims.op == "Concat" else 0]) if parts else None
    while dims is not None and dims.op in ("ExpandDims", "Reshape", "Cast"):
        dims = trace.through(graph, trace.operand(graph, dims, 0))
    constant = dims.constant() if dims is not None else None
    if constant is not None and constant.values:
        return Option(int(constant.values[0]), "graph")
    return Option(None, "graph") if dims is not None else UNKNOWN


# ---- loops


def _frame(graph: Graph, product: Node) -> str | None:
    """Return the name of the loop in which a product stands: that of the weight's Enter."""
    weight = trace.operand(graph, product, 1)
    if weight is None:
        return None
    for node in trace.backward(graph, [weight], lambda node: node.op not in _ENTERS, 60):
        if node.op in _ENTERS:
            return node.string("frame_name")
    return None


def time_major(graph: Graph) -> dict[str, Option]:
    """Return, for each loop over a sequence, whether its arrays have time before batch.

    dynamic_rnn over batch-major data transposes what it reads into its arrays and what it
    takes out of them; over time-major data it does neither.
    """
    turned: dict[str, list[bool]] = {}
    for node in graph.nodes.values():
        if node.op in _UNSTACKS:
            value = trace.through(graph, trace.operand(graph, node, _UNSTACKS[node.op]))
            for enter in trace.consumers(graph, node, frozenset({"Enter"})):
                frame = enter.string("frame_name")
                if frame and value is not None:
                    turned.setdefault(frame, []).append(value.op == "Transpose")
    return {frame: Option(not all(found), "graph") for frame, found in turned.items()}


# Operations that lay a sequence into an array of time steps: which input is the sequence.
_UNSTACKS = {
    "TensorArrayScatterV3": 2,
    "TensorArrayScatterV2": 2,
    "TensorArrayScatter": 2,
    "TensorArrayUnpack": 1,
}


# ---- cells that are one operation


def _block_step(graph: Graph, node: Node) -> Wired | None:
    """Read a block cell's operation; an attribute that is not set has the default of 1.x."""
    weight_at, c_at, clip_default, order = _BLOCKS[node.op]
    inputs = data_count = len(trace.data_inputs(node))
    if node.op == "FusedLSTM" or (node.op == "BlockLSTM" and data_count > 9):
        # In 0.10 and 0.11 x was a list of max_len tensors.
        extra = data_count - 9
        weight_at, c_at = weight_at + extra, c_at + extra
    weight = trace.operand(graph, node, weight_at) if weight_at < inputs else None
    bias = trace.operand(graph, node, inputs - 1)
    if weight is None or bias is None:
        return None
    clip = node.real("cell_clip")
    clip = clip_default if clip is None else clip
    forget_bias = node.real("forget_bias")
    wired = Wired(
        (tuple(trace.variables(graph, weight)),),
        tuple(trace.variables(graph, bias)),
        gate_order=order,
        block=node.op,
        options={
            "forget_bias": Option(1.0 if forget_bias is None else forget_bias, "graph"),
            "cell_clip": Option(clip if clip > 0 else None, "graph"),
            "activation": Option("tanh", "graph"),
        },
        peephole_attribute=bool(node.number("use_peephole")),
    )
    if node.op == "BlockLSTMV2":
        wired.options["forget_bias"] = Option(0.0, "graph")
    c_old = trace.operand(graph, node, c_at)
    wired.firsts.append((c_old, trace.operand(graph, node, c_at + 1)))
    if c_old is not None:
        wired.options["batch_size"] = _batch(graph, c_old)
    if node.op not in ("LSTMBlockCell", "LSTMFusedCell"):
        wired.options["time_major"] = Option(True, "family")
    elif weight.op in _ENTERS:
        wired.frame = weight.string("frame_name")
    return wired if wired.kernels[0] else None
