"""A row of the table of LSTM families: what a class of cells stores, and what it is known to do."""

from __future__ import annotations

from collections.abc import Callable

from lstmstate.cells import shapes
from lstmstate.cells.cell import UNKNOWN, Documented, Option
from lstmstate.cells.shapes import Shapes, Widths
from lstmstate.records import NamedTuple

# A leaf is a path below the cell's scope; "{k}" in it stands for the number of a shard.
Leaves = dict[str, str]

TENSORFLOW = "TensorFlow"


class Family(NamedTuple):
    """A class of cells.

    Attributes:
        words: the last words of its scopes, in snake case; CamelCase is understood too.
        leaves: for each era (None: all of them) its variables, role → leaf.
        required: the roles without which it is not this family.
        forbidden: the roles that only other families of the same words have.
        widths: how its shapes are read.
        by_leaves: whether its required leaves are enough, whatever the scope is called.
        has_pair: whether its state is c and m of `[batch, units]`.
        owns_scope: whether all else in its scope is its own, under whatever leaf.
        options: what is the same for all its cells, or the one default that is documented.
        documented: the options that have more than one default, and "family" where classes of
            other equations leave the same variables: unknown, unless the graph shows them.
        since_2: those of `documented` that are others in TensorFlow 2.
        shares_names_with: classes that leave the very same variables.
        library: the library that it is of.
    """

    name: str
    words: tuple[str, ...]
    leaves: dict[str | None, Leaves]
    widths: Callable[[Shapes], Widths | None] = shapes.fused
    required: tuple[str, ...] = ("kernel", "bias")
    forbidden: tuple[str, ...] = ()
    gate_order: str = "ijfo"
    by_leaves: bool = False
    has_pair: bool = True
    owns_scope: bool = False
    options: dict[str, Option] = {}  # noqa: RUF012 - never changed
    documented: dict[str, Documented] = {}  # noqa: RUF012 - never changed
    since_2: dict[str, Documented] = {}  # noqa: RUF012 - never changed
    shares_names_with: tuple[str, ...] = ()
    library: str = TENSORFLOW

    def option(self, name: str) -> Option:
        """Return what is known of an option of all cells of the family."""
        if name in self.documented:
            return UNKNOWN
        return self.options.get(name, _COMMON.get(name, UNKNOWN))


def always(**values: float | bool | str | None) -> dict[str, Option]:
    """Return options that are the same for all cells of a family."""
    return {name: Option(value, "family") for name, value in values.items()}


# What holds for every class whose row does not say otherwise: the documented forget bias, and the
# sigmoid that no class but those of Keras lets one change.
_COMMON = {"forget_bias": Option(1.0, "default"), **always(recurrent_activation="sigmoid")}
