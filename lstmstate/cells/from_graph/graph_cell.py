"""Records of cells in graphs, and of their steps."""

from __future__ import annotations

from collections.abc import Mapping

from lstmstate.cells.cell import Option
from lstmstate.cells.from_graph.activations import Value
from lstmstate.checkpoint.graph_node import Node
from lstmstate.named_tuple import NamedTuple

FEW = 20  # steps, or marks of steps, that are sooner read than compared


class GraphStep(NamedTuple):
    """The nodes of one step of a cell; None for those that were not found.

    Attributes:
        m: the product o * act(c'), before a projection.
    """

    c_new: Node
    c_old: Node
    m_old: Node | None
    x: Node | None
    m: Node | None


class GraphCell:
    """A cell in the graph.

    Attributes:
        kernels: the variables of the product, shards in order; two lists if input and
            recurrent kernel are separate.
        biases: the variables added to the product.
        gate_order: as the structure shows it; None if it does not.
        block: the operation, if one operation is the whole cell.
        frame: the loop around it.
        peephole_attribute: whether a block cell uses its peepholes.
        m_first: whether m comes before the input in the product.
        c_new: the name of the sum that is the new c.
        complete: whether m = o * act(c) was seen too.
        differing: options that two uses of the cell do not share.
        steps: the nodes of each step.
        firsts: for each step the values that it takes c and m from.
        inputs: for each step the source of its input, if it was found.
        outputs: the names of the products o * act(c), and of their projections.
        lasts: (name of a node, its output) → "c" or "m", the new state of a step.
        takes_sum: whether its input is a sum of the output of another cell and something else.
        is_residual: whether its input is added to its output.
        is_mixed: whether its new c is mixed with the old one before it is carried on.
    """

    def __init__(
        self,
        kernels: tuple[tuple[Node, ...], ...],
        biases: tuple[Node, ...] = (),
        *,
        gate_order: str | None = None,
        block: str | None = None,
        options: dict[str, Option] | None = None,
        frame: str | None = None,
        peephole_attribute: bool | None = None,
    ) -> None:
        self.kernels = kernels
        self.biases = biases
        self.gate_order = gate_order
        self.block = block
        self.options = options or {}
        self.frame = frame
        self.peephole_attribute = peephole_attribute
        self.firsts: list[tuple[Value | None, Value | None]] = []
        self.steps: list[GraphStep] = []
        self.differing: set[str] = set()
        self.m_first = False
        self.c_new: str | None = None
        self.complete = True
        self.inputs: list[Node] = []
        self.lasts: dict[tuple[str, int], str] = {}
        self.outputs: list[str] = []
        self.takes_sum = False
        self.is_residual = False
        self.is_mixed = False

    def elsewhere(self, there: Mapping[str, Node]) -> GraphCell:
        """Return the cell at another step that is like its own.

        Args:
            there: the nodes of that step by the names of those here.
        """
        made = GraphCell(self.kernels, self.biases)
        vars(made).update(vars(self))
        made.options, made.differing = dict(self.options), set(self.differing)
        made.firsts = [
            (c and (there[c[0].name], c[1]), m and (there[m[0].name], m[1])) for c, m in self.firsts
        ]
        made.steps = [
            GraphStep._make(node and there[node.name] for node in step) for step in self.steps
        ]
        made.c_new = self.c_new and there[self.c_new].name
        made.inputs = [there[node.name] for node in self.inputs]
        made.lasts = {(there[name].name, port): half for (name, port), half in self.lasts.items()}
        made.outputs = [there[name].name for name in self.outputs]
        return made

    def makes(self, value: Value | None) -> bool:
        """Whether a value is a c or m that a step makes."""
        return value is not None and (value[0].name, value[1]) in self.lasts

    @property
    def key(self) -> tuple[str, ...]:
        """The key of this cell among others: its kernels."""
        # Sorted: the input's kernel and the recurrent one may come in any order.
        return tuple(sorted(node.name for shards in self.kernels for node in shards))
