"""A row of the table of LSTM families: variables, shapes, options, and step of a class of cells."""

from __future__ import annotations

from collections.abc import Callable

from lstmstate.cells import shapes
from lstmstate.cells.cell import UNKNOWN, Documented, Option
from lstmstate.cells.shapes import CellWidths, Shapes
from lstmstate.named_tuple import NamedTuple

# A leaf is a path below the cell's scope; "{k}" in it is the number of a shard.
Leaves = dict[str, str]

TENSORFLOW = "TensorFlow"


class Family(NamedTuple):
    """A class of cells: everything that differs from one class to another.

    Attributes:
        words: the last words of its scopes, in snake case; CamelCase is understood too.
        leaves: for each era (None: all of them) its variables, role → leaf.
        widths: reads its widths from the shapes of its variables.
        required: the roles without which it is not this family.
        forbidden: the roles that only other families with the same words have.
        gate_order: the gates in the order of the kernel's columns.
        by_leaves: whether its required leaves are enough, under a scope of any name.
        has_pair: whether its state is c and m of `[batch, units]`.
        h_first: whether the class takes its state as (h, c).
        owns_scope: whether all other variables in its scope are its own, too.
        options: values that are the same for all its cells, or the one documented default.
        documented: the options that have more than one default, and "family" if classes with
            other equations leave the same variables: unknown, unless the graph shows them.
        since_2: those of `documented` that differ in TensorFlow 2.
        shares_names_with: classes that leave exactly the same variables.
        is_interchangeable: whether it has the tensors of LSTMCell in the same roles, so that each
            class of this kind loads checkpoints of the others.
        is_layer: whether it is a layer of Keras, which has no wrappers, and shares scopes.
        library: the library that has the class.
        form: the form of its weights, a key of `engines.canonical_weights.FORMS`; None if only the
            graph's own step can run it.
        refusal: the reason, if it has no form.
        clip_refusal: the reason why it is not run with a cell_clip.
        is_block: whether one operation is its step, which clips only if the bound is above zero.
        operations: the operations of graphs that are the whole cell.
        step_operations: place in a step → operations that only its steps have there.
        tensorflow: the class or operation of TensorFlow 2 with its equations, a key of
            `engines.tensorflow_cells.CLASSES`.
    """

    name: str
    words: tuple[str, ...]
    leaves: dict[str | None, Leaves]
    widths: Callable[[Shapes], CellWidths | None] = shapes.fused
    required: tuple[str, ...] = ("kernel", "bias")
    forbidden: tuple[str, ...] = ()
    gate_order: str = "ijfo"
    by_leaves: bool = False
    has_pair: bool = True
    h_first: bool = False
    owns_scope: bool = False
    options: dict[str, Option] = {}  # noqa: RUF012 - never changed
    documented: dict[str, Documented] = {}  # noqa: RUF012 - never changed
    since_2: dict[str, Documented] = {}  # noqa: RUF012 - never changed
    shares_names_with: tuple[str, ...] = ()
    is_interchangeable: bool = False
    is_layer: bool = False
    library: str = TENSORFLOW
    form: str | None = None
    refusal: str = "its equations are unknown"
    clip_refusal: str | None = None
    is_block: bool = False
    operations: tuple[str, ...] = ()
    step_operations: dict[str, frozenset[str]] = {}  # noqa: RUF012 - never changed
    tensorflow: str | None = None

    def option(self, name: str) -> Option:
        """Return an option as it is for all cells of the family."""
        if name in self.documented:
            return UNKNOWN
        return self.options.get(name, COMMON.get(name, UNKNOWN))


def always(**values: float | bool | str | None) -> dict[str, Option]:
    """Return options that are the same for all cells of a family."""
    return {name: Option(value, "family") for name, value in values.items()}


DIAGONALS: Leaves = {role: role for role in shapes.PEEPHOLES}
PAIR = always(state_is_tuple=True)
# The forget bias, if any, is in the stored bias, and none is added at run time.
STORED = always(forget_bias=0.0)

# For every class without a value in its row: the documented forget bias, and the sigmoid, which
# only the classes of Keras let users change.
COMMON = {"forget_bias": Option(1.0, "default"), **always(recurrent_activation="sigmoid")}
