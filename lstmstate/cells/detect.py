"""Detection of LSTM cells among variables: by scopes and leaves, by the graph, by shapes.

Three passes, the surest first: scopes that a row of the table of families knows; cells that
the graph shows, under scopes of any name; and, for variables that no graph has, those with the
shapes of a cell and no neighbours that contradict.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache, cached_property

from lstmstate import limits
from lstmstate.cells import shapes
from lstmstate.cells import variable_names as names
from lstmstate.cells.cell import MIXED, OPTIONS, OTHER_STEP, STRANGE, UNKNOWN, Cell, Option, Stack
from lstmstate.cells.families import (
    BASIC,
    BY_OPERATION,
    CONVOLUTION,
    COUPLED,
    FAMILIES,
    KERAS,
    OLD,
    PLAIN,
    PLAIN_LEAVES,
    USER,
)
from lstmstate.cells.family import Family, Leaves
from lstmstate.cells.from_graph.graph_cell import GraphCell
from lstmstate.cells.from_graph.match_variables import GraphView, VariableFacts
from lstmstate.cells.from_graph.recurrences import count_layers
from lstmstate.cells.from_graph.unexplained_operations import explain, find_unusual_operations
from lstmstate.cells.options_from_files import options_from_files
from lstmstate.cells.shapes import PEEPHOLES, CellWidths, Shapes
from lstmstate.cells.stacks import stacks as stacks_of
from lstmstate.cells.variable_names import use_of
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.errors import printable
from lstmstate.files.budget import Budget
from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    from lstmstate.cells.dense_layers import Surroundings

Scope = dict[str, VariableFacts]  # leaf → variable
Roles = dict[str, tuple[VariableFacts, ...]]

_FIRST_PART = "/part_0"  # of a variable that was saved in parts by hand
_SECOND = "recurrent_kernel_1"  # of Keras cells in one scope

# Scopes of other layers, with shapes of any kind: the last word, or a part of it.
NOT_LSTM_CELLS = frozenset(
    """
    gru_cell gru_block_cell gru_block_cell_v2 cudnn_compatible_gru_cell indy_gru_cell
    basic_rnn_cell ind_rnn_cell ugrnn_cell intersection_rnn_cell in_projection sru_cell
    minimal_rnn_cell cfn_cell ntm_cell gates candidate attention_cell_wrapper attention
    attn_output_projection output_projection_wrapper input_projection_wrapper embedding_wrapper
    attention_decoder attention_layer memory_layer query_layer highway_wrapper gru cudnn_gru
    simple_rnn
    """.split()
)
NOT_LSTM_WORDS = frozenset(
    """
    dense fc fully connected conv logits softmax projection proj output out attention attn
    embedding embeddings gru linear classifier highway mlp batch norm
    """.split()
)


class Recognition:
    """The cells among some variables.

    Args:
        variables: all variables of a checkpoint, by name.
        graph: the graph next to it, if there is one.
        recorded: options that it records, by the name of the cell, by their own.

    Attributes:
        variables: all of them.
        cells: in the order of their names.
        slots: names of the variables of optimizers and averages.
        roles: name of a variable → (its role, the name of its cell).
        graph: the graph's cells, tied to the variables; None without a graph.
        candidates: scopes with the shapes of a cell that may be something else.
    """

    def __init__(
        self,
        variables: Mapping[str, VariableFacts],
        graph: Graph | None,
        recorded: Mapping[str, Mapping[str, Option]] | None = None,
    ) -> None:
        self.variables = variables.values()
        every = _by_path(variables)
        self.slots = frozenset(
            variable.name
            for variable in every.values()
            if variable.is_slot or names.is_slot(variable.path, every)
        )
        self._kept = every
        if self.slots:
            self._kept = {key: v for key, v in every.items() if v.name not in self.slots}
            # Where only averages were saved they are the weights.
            for average in (v for v in every.values() if v.path.endswith(names.AVERAGE)):
                weight = average.path[: -len(names.AVERAGE)]
                if not any(inner in every for inner in names.inner_paths(weight)):
                    self._kept[weight] = average
        self.graph = GraphView(graph, self._kept) if graph is not None else None
        self._scopes = group(self._kept, self._scopes_of_graph())
        self._taken: set[str] = set()
        self._recorded = recorded or {}
        self._budget = Budget()
        self._found: dict[str, Cell] = {}
        self.candidates: list[str] = []
        self._by_family()
        self._by_graph()
        self._by_shape()
        opaque = self._drop_opaque()
        self.cells = [self._found[name] for name in sorted(self._found, key=names.order)]
        self.roles: dict[str, tuple[str, str | None]] = {
            variable: (role, cell.name)
            for cell in self.cells
            for role, stored in cell.variables.items()
            for variable in stored
        } | dict.fromkeys(opaque, ("opaque_kernel", None))

    @cached_property
    def stacks(self) -> list[Stack]:
        """The stacks, and the pairs of directions, that the cells form."""
        rest = (v for v in self.variables if v.name not in self.roles and v.name not in self.slots)
        return stacks_of(
            self.cells,
            (variable.path for variable in self.variables),
            (variable.path for variable in rest),
            self._feeders,
        )

    def _feeders(self, cells: Mapping[str, Cell]) -> dict[str, str]:
        """Return the cells whose output feeds others, in the graph."""
        if self.graph is None:
            return {}
        from lstmstate.cells.from_graph.chained_cells import feeders

        return feeders(self.graph, cells)

    def _leaves(self, scope: str) -> Scope:
        """Return the variables one or two parts below a scope."""
        paths = self._scopes.get(scope, ())
        return {leaf_in(scope, path): self._kept[path] for path in paths}

    def _drop_opaque(self) -> list[str]:
        """Take out cuDNN's buffers if there are cells with the same weights, too."""
        dropped: list[str] = []
        for name, cell in list(self._found.items()):
            twins = (other for other in self._found if other.startswith(f"{name}/"))
            if "opaque_kernel" in cell.variables and any(twins):
                dropped += self._found.pop(name).variables["opaque_kernel"]
        return dropped

    # ---- by words and leaves

    def _by_family(self) -> None:
        by_word = _families_by_word()
        fitting: dict[tuple[str, ...], list[int]] = {}  # many scopes have the same leaves
        for scope in self._scopes:
            leaves = self._leaves(scope)
            kind = tuple(leaves)
            if kind not in fitting:
                fitting[kind] = _families_with(leaves)
            called = names_of(scope, leaves) if fitting[kind] else set()
            possible = by_word[None].union(*(by_word.get(last_word(one), ()) for one in called))
            for number in fitting[kind]:
                if number not in possible:
                    continue
                if self._try(scope, leaves, FAMILIES[number], called):
                    break
            if _SECOND in leaves:
                self._add_numbered(scope, leaves)

    def _add_numbered(self, scope: str, leaves: Scope) -> None:
        """Add the Keras cells that share one scope: kernel, kernel_1, kernel_2, …"""
        numbered: dict[str, Scope] = {}
        for leaf, variable in leaves.items():
            plain, _, number = leaf.rpartition("_")
            numbered.setdefault(number, {})[plain] = variable
        for number, own in numbered.items():
            if number.isdecimal():
                name = f"{scope}:{number}"
                called = names_of(name, own)
                any(self._try(name, own, family, called) for family in KERAS)

    def _try(self, scope: str, leaves: Scope, family: Family, called: set[str]) -> bool:
        """Add the cell of a scope if it is of this family; `called` is of `names_of`."""
        if not family.by_leaves and not is_called(called, family):
            return False
        for era, pattern in family.leaves.items():
            if not has_leaves(leaves, pattern, family.required):
                continue
            roles = by_role(leaves, pattern)
            if any(role in roles for role in family.forbidden):
                continue
            measure = shapes.grid_dimension if _grid(scope) else family.widths
            widths = measure(shapes_of(roles))
            if (
                widths is not None
                and not (_LAYER.issuperset(family.required) and self._is_dense(roles))
                and not ("family" in family.documented and self._is_shown_otherwise(roles))
            ):
                if family.owns_scope:
                    known = {v.name for stored in roles.values() for v in stored}
                    rest = {leaf: v for leaf, v in leaves.items() if v.name not in known}
                    roles |= {leaf: (variable,) for leaf, variable in rest.items()}
                self._add(scope, family, era or era_of(scope), roles, widths)
                return True
        return False

    def _is_dense(self, roles: Roles) -> bool:
        """Whether the graph shows that variables with the name of a cell are a dense layer."""
        view, kernel = self.graph, roles.get("kernel", ())
        if view is None or len(kernel) != 1 or self._wired(kernel) is not None:
            return False
        return view.is_dense(kernel[0])

    def _is_shown_otherwise(self, roles: Roles) -> bool:
        """Whether the graph has the kernel, and shows no cell with it."""
        kernel = roles["kernel"]
        return self._wired(kernel) is None and self._is_in_graph(kernel)

    def _is_in_graph(self, stored: Iterable[VariableFacts]) -> bool:
        return self.graph is not None and any(v.name in self.graph.nodes for v in stored)

    def _wired(self, stored: Iterable[VariableFacts]) -> GraphCell | None:
        """Return the cell of the graph that has one of some variables as its kernel."""
        known = self.graph.by_kernel if self.graph is not None else {}
        return next((known[v.name] for v in stored if v.name in known), None)

    # ---- by the graph

    def _scopes_of_graph(self) -> Iterator[str]:
        """Yield the scopes of the kernels that the graph shows."""
        for wired in self.graph.cells if self.graph else ():
            assert self.graph is not None
            for kernel in (v for shards in wired.kernels for v in self.graph.stored(shards)):
                yield place(kernel.path)[0]

    def _by_graph(self) -> None:
        """Add the cells that the graph shows and no family has by name."""
        for wired in self.graph.cells if self.graph else ():
            assert self.graph is not None
            if not wired.complete or wired.gate_order is None:
                continue
            kernels = [self.graph.stored(shards) for shards in wired.kernels]
            if not all(kernels) or any(v.name in self._taken for k in kernels for v in k):
                continue
            first = kernels[0][0]
            scope, pattern, era, plain = place(first.path)
            roles = by_role(self._leaves(scope), pattern)
            if len(kernels) == 1:
                roles["kernel"] = kernels[0]
                roles.setdefault("bias", self.graph.stored(wired.biases[:1]))
            else:
                roles = two_kernels(kernels, self.graph.stored(wired.biases[:1]))
            roles = {role: stored for role, stored in roles.items() if stored}
            if "kernel" not in roles:
                continue  # such as two convolutions in scopes of their own
            family = _unnamed(wired, roles, plain)
            widths = family.widths(shapes_of(roles))
            if widths is not None:
                self._add(scope, family, era, roles, widths, wired)

    # ---- by shape alone

    def _by_shape(self) -> None:
        """Add variables with the shapes and neighbours of a cell that no graph has."""
        kernels = {first_leaf(pattern["kernel"]) for _, pattern, _ in PLAIN_LEAVES}
        for scope in self._scopes:
            if is_something_else(scope):
                continue
            leaves = self._leaves(scope)
            if kernels.isdisjoint(map(whole_leaf, leaves)):
                continue
            for era, pattern, family in PLAIN_LEAVES:
                if not has_leaves(leaves, pattern, ("kernel", "bias")):
                    continue
                roles = by_role(leaves, pattern)
                widths = None if self._is_decided(roles) else family.widths(shapes_of(roles))
                if widths is None or widths.num_units is None or widths.input_size is None:
                    continue
                verdict = self._surroundings.verdict(
                    scope, roles, widths.input_size, widths.num_units
                )
                if verdict:
                    self._add(scope, family, era, roles, widths)
                elif verdict is None:
                    self.candidates.append(scope)
                break

    @cached_property
    def _surroundings(self) -> Surroundings:
        from lstmstate.cells.dense_layers import Surroundings

        return Surroundings(self._kept.values())

    def _is_decided(self, roles: Roles) -> bool:
        """Whether a variable belongs to a cell, or to a graph that shows no cell with it."""
        kernel = roles["kernel"]
        return self._is_in_graph(kernel) or any(v.name in self._taken for v in kernel)

    def _add(
        self,
        scope: str,
        family: Family,
        era: str | None,
        roles: Roles,
        widths: CellWidths,
        wired: GraphCell | None = None,
    ) -> None:
        stored = [variable for shards in roles.values() for variable in shards]
        if any(variable.name in self._taken for variable in stored):
            return
        if not stored[0].dtype.endswith(_NUMERIC):
            return  # no cell computes in strings, bools or integers
        if wired is None:
            wired = self._wired(stored)
        self._taken.update(variable.name for variable in stored)
        self._budget.spend(limits.CELLS)
        # Cells that a user wrote into one scope have the names of their kernels.
        name = scope if scope not in self._found else stored[0].path
        recorded = self._recorded.get(name, {})
        is_of_2 = self._is_of_2(scope, stored)
        cell = _cell(scope, family, era, roles, widths, recorded, is_of_2=is_of_2)
        units = widths.num_units if self.graph is None else None
        cell = cell._replace(notes=note_unused(self._leaves(scope), stored, units))
        if wired is not None and self.graph is not None:
            cell = _with_graph(cell, family, wired, self.graph, recorded)
        elif self.graph is not None and self.graph.multiplies(stored):
            cell = _with_other_step(cell, family, stored, self.graph)
        self._found[name] = cell._replace(name=name)

    def _is_of_2(self, scope: str, stored: Iterable[VariableFacts]) -> bool:
        """Whether a cell is of TensorFlow 2, by the version in the graph, or else by names."""
        version = self.graph.graph.tensorflow_version if self.graph else None
        major = (version or "").split(".")[0]
        if major.isdecimal():
            return int(major) > 1
        objects = any(variable.name.endswith(_OF_OBJECT) for variable in stored)
        return objects or re.search(_OF_2, scope) is not None


# ---- variables by scope, leaf and role


def _by_path(variables: Mapping[str, VariableFacts]) -> Mapping[str, VariableFacts]:
    """Return variables by their names in the model; the same mapping if they have no others."""
    if all(variable.path == name for name, variable in variables.items()):
        return variables
    every: dict[str, VariableFacts] = {}
    for variable in variables.values():
        # A variable may be there twice, with ":0" behind its name and without.
        every[variable.name if variable.path in every else variable.path] = variable
    return every


def group(paths: Collection[str], wanted: Iterable[str]) -> dict[str, list[str]]:
    """Return the variables one or two parts below each scope that can be that of a cell.

    Parts of a partitioned variable that were saved by hand are one further: `kernel/part_0`.

    Args:
        wanted: further scopes.
    """
    firsts = {*_families_by_leaf(), *(first_leaf(p["kernel"]) for _, p, _ in PLAIN_LEAVES)}
    firsts.add(_SECOND)
    ends = {names.last(leaf) for leaf in firsts} | {names.last(_FIRST_PART)}
    scopes = {
        scope
        for path in paths
        if path.rpartition("/")[2] in ends
        for scope in _scopes_around(path)
        if whole_leaf(leaf_in(scope, path)) in firsts
    }
    scopes.update(wanted)
    found: dict[str, list[str]] = {}
    for path in paths if scopes else ():
        for scope in _scopes_around(path):
            if scope in scopes:
                found.setdefault(scope, []).append(path)
    return found


def _scopes_around(path: str) -> list[str]:
    """Return the scopes that a variable may be a leaf of, the innermost first."""
    scope, _, last = path.rpartition("/")
    found = [scope]
    for _ in range(2 if last.startswith("part_") else 1):
        if scope:
            scope = scope.rpartition("/")[0]
            found.append(scope)
    return found


def leaf_in(scope: str, path: str) -> str:
    """Return the leaf of a variable in a scope around it."""
    return path[len(scope) :].removeprefix("/")


def by_role(leaves: Scope, pattern: Leaves) -> Roles:
    """Return the variables of a scope by role, shards in the order of their numbers."""
    roles: Roles = {}
    for role, leaf in pattern.items():
        # Parts of a variable that were saved by hand are called `…/part_0`, `…/part_1`, …
        for template in (leaf, f"{leaf}/part_{{k}}"):
            shards: list[VariableFacts] = []
            while (name := template.replace("{k}", str(len(shards)))) in leaves:
                shards.append(leaves[name])
                if name == template:
                    break  # it has no number: there is only one
            if shards:
                roles.setdefault(role, tuple(shards))
    return roles


def shapes_of(roles: Roles) -> Shapes:
    """Return the shapes of a cell's variables by role."""
    return {role: tuple(v.shape for v in stored) for role, stored in roles.items()}


def note_unused(
    leaves: Scope, stored: Iterable[VariableFacts], units: int | None = None
) -> tuple[str, ...]:
    """Return a note on variables of a cell's scope that look like its parts and are unused.

    Args:
        units: of a cell without a graph: vectors of its gates, such as gains and peepholes of any
            name, look like its parts.
    """
    own = list(stored)
    known = {variable.name for variable in own}
    kind = own[0].dtype
    vectors = {(kind, (units,)), (kind, own[0].shape[-1:])} if units else set()
    odd = [
        leaf
        for leaf, v in leaves.items()
        if v.name not in known
        and (names.is_part(leaf) or ((v.dtype, v.shape) in vectors and "/" not in leaf))
    ]
    return (f"{STRANGE}: {', '.join(sorted(odd))}",) if odd else ()


def names_of(scope: str, leaves: Scope) -> set[str]:
    """Return a scope, and the scopes of its variables in the graph."""
    return {scope, *(names.parent(v.full_name) for v in leaves.values() if v.full_name)}


def last_word(scope: str) -> str:
    """Return the last word of a scope."""
    return names.word(names.last(scope))


def is_called(called: set[str], family: Family) -> bool:
    """Whether a scope ends with a word of a family; `called` is of `names_of`."""
    around = "bidirectional_grid_lstm_cell" if family.name.startswith("Bidirectional") else None
    return any(
        last_word(scope) in family.words and around in (None, last_word(names.parent(scope)))
        for scope in called
    )


def is_something_else(scope: str) -> bool:
    """Whether the last part of a scope names another layer than an LSTM."""
    word = last_word(scope)
    if names.is_lstm_word(word):
        return False
    parts = {part.rstrip("0123456789") for part in word.split("_")}
    return word in NOT_LSTM_CELLS or bool(NOT_LSTM_WORDS & parts)


def era_of(scope: str) -> str | None:
    """Return the era of a family whose leaves never changed: its class word was CamelCase first."""
    last = names.last(scope)
    return OLD if last[:1].isupper() else None


def place(path: str) -> tuple[str, Leaves, str | None, Family]:
    """Return a kernel's scope, the leaves that belong to it, their era and plainest family."""
    for era, pattern, family in PLAIN_LEAVES:
        leaf = pattern["kernel"].replace("{k}", "0")
        if path == leaf or path.endswith(f"/{leaf}"):
            return path[: -len(leaf)].rstrip("/"), pattern, era, family
    return names.parent(path), {}, None, PLAIN


def has_leaves(leaves: Scope, pattern: Leaves, roles: Iterable[str]) -> bool:
    """Whether the variables of some roles are there, whole or as their first shard or part."""
    for role in roles:
        first = first_leaf(pattern.get(role, ""))
        if first not in leaves and f"{first}{_FIRST_PART}" not in leaves:
            return False
    return True


def first_leaf(leaf: str) -> str:
    """Return the leaf of a family's variable, or of its first shard."""
    return leaf.replace("{k}", "0")


def whole_leaf(leaf: str) -> str:
    """Return the leaf of the variable whose first part may have this one."""
    return leaf.removesuffix(_FIRST_PART)


def two_kernels(kernels: list[tuple[VariableFacts, ...]], bias: tuple[VariableFacts, ...]) -> Roles:
    """Return the input kernel `[I, 4H]` and the recurrent one `[H, 4H]` by role, from shapes."""
    if [len(stored[0].shape) for stored in kernels] != [2, 2]:
        return {}
    first, second = kernels
    units = first[0].shape[1] // 4
    if second[0].shape[0] != units and first[0].shape[0] == units:
        first, second = second, first
    return {"kernel": first, "recurrent_kernel": second, "bias": bias}


# ---- records of cells


@cache
def _families_by_leaf() -> dict[str, list[int]]:
    """Return the numbers in `FAMILIES` of those that need a leaf before all others."""
    found: dict[str, list[int]] = {}
    for number, family in enumerate(FAMILIES):
        for pattern in family.leaves.values():
            leaf = first_leaf(pattern.get(family.required[0], ""))
            found.setdefault(leaf, []).append(number)
    return found


def _families_with(leaves: Scope) -> list[int]:
    """Return the numbers in `FAMILIES` of those whose leaves are all in a scope, in order."""
    by_leaf = _families_by_leaf()
    return [
        number
        for number in sorted({n for leaf in leaves for n in by_leaf.get(whole_leaf(leaf), ())})
        if any(
            has_leaves(leaves, pattern, FAMILIES[number].required)
            for pattern in FAMILIES[number].leaves.values()
        )
    ]


@cache
def _families_by_word() -> dict[str | None, set[int]]:
    """Return the numbers in `FAMILIES` by the words of scopes; None: known by leaves alone."""
    found: dict[str | None, set[int]] = {None: set()}
    for number, family in enumerate(FAMILIES):
        for word in (None,) if family.by_leaves else family.words:
            found.setdefault(word, set()).add(number)
    return found


_LAYER = frozenset({"kernel", "bias"})  # the roles of a dense layer
_GRID = r"Grid\d+(Basic)?LSTMCell"


def _grid(scope: str) -> str | None:
    """Return the class of the grid around a cell: `Grid2LSTMCell/recurrent/…`."""
    parts = scope.split("/") if "Grid" in scope else ()
    return next((part for part in parts if re.fullmatch(_GRID, part)), None)


def _unnamed(wired: GraphCell, roles: Roles, plain: Family) -> Family:
    """Return the family of a cell that only the graph shows."""
    if "recurrent_kernel" in roles:
        return USER._replace(widths=shapes.keras)
    if wired.block:
        return BY_OPERATION[wired.block]
    if len(roles["kernel"][0].shape) > 2:
        return CONVOLUTION
    known = {None: plain, plain.gate_order: plain, COUPLED.gate_order: COUPLED}
    return known.get(wired.gate_order, USER)


def _cell(
    scope: str,
    family: Family,
    era: str | None,
    roles: Roles,
    widths: CellWidths,
    recorded: Mapping[str, Option],
    *,
    is_of_2: bool,
) -> Cell:
    stored = [variable for shards in roles.values() for variable in shards]
    kernel = next(iter(roles.values()))[0]
    always = era == OLD and "kernel" in roles and names.last(kernel.path) == "W"
    peepholes = widths.peepholes
    if peepholes is None:
        peepholes = any(role in roles for role in PEEPHOLES)
    if peepholes and "peepholes" in recorded:
        peepholes, always = bool(recorded["peepholes"].value), False
    layer = names.layer(scope) if not _grid(scope) else None
    direction = names.direction(scope)
    return Cell(
        name=scope,
        family=_grid(scope) or family.name,
        era=era,
        input_size=widths.input_size,
        num_units=widths.num_units,
        num_proj=widths.num_proj,
        dtype=kernel.dtype,
        gate_order=widths.gate_order or family.gate_order,
        # LSTMFusedCell and LSTMBlockCell of 0.10 and 0.11 made them, used or not.
        peepholes=None if peepholes and always else peepholes,
        layer_norm=any(role.endswith("/gamma") for role in roles),
        options=options_from_files(family, recorded=recorded),
        variables={role: tuple(v.name for v in shards) for role, shards in roles.items()},
        parameters=sum(variable.size for variable in stored),
        nbytes=sum(variable.nbytes or 0 for variable in stored),
        alternatives=family.shares_names_with,
        shard_axis=widths.shard_axis,
        layer=layer[1] if layer else None,
        direction=direction[1] if direction else None,
        has_pair=family.has_pair,
        h_first=family.h_first,
        extra=({} if widths.groups is None else {"number_of_groups": widths.groups})
        | {name: recorded[name].value for name in ("residual",) if name in recorded},
        documented={
            name: several
            for name, several in (family.documented | (family.since_2 if is_of_2 else {})).items()
            if name not in recorded
        },
    )


_NUMERIC = ("float16", "float32", "float64", "complex64", "complex128")

_OF_OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"
# In Keras 2.x the cell inside a layer has a scope of its own.
_OF_2 = r"/lstm_cell(_\d+)?$"


def _with_other_step(
    cell: Cell, family: Family, stored: Iterable[VariableFacts], view: GraphView
) -> Cell:
    """Return a cell that the graph steps in a way that is not read: no default applies."""
    assumed = {name for name, option in cell.options.items() if option.source == "default"}
    if not assumed:
        return cell._replace(documented={})
    kernels = (view.graph.nodes[node] for one in stored for node in view.nodes.get(one.name, ()))
    return cell._replace(
        documented={},
        options=options_from_files(family, unread=assumed),
        notes=(*cell.notes, OTHER_STEP),
        unexplained=find_unusual_operations(view.graph, view.sources, kernels),
    )


def _shown_options(cell: Cell, wired: GraphCell, view: GraphView) -> dict[str, Option]:
    shown = dict(wired.options)
    if wired.frame is not None and wired.frame in view.time_major:
        shown["time_major"] = view.time_major[wired.frame]
    if cell.num_proj is None:
        shown["proj_clip"] = Option(None, "graph")  # no product of m is a projection
    return shown


def _shown_family(family: Family, wired: GraphCell, shown: dict[str, Option]) -> Family:
    """Return the row of a cell whose variables several classes may have made."""
    if family.name == BASIC.name and shown.get("cell_clip", UNKNOWN).value is not None:
        family = PLAIN  # which has clips, under the other's name
    return BY_OPERATION.get(wired.block or "", family) if family.name == PLAIN.name else family


def _with_graph(
    cell: Cell,
    family: Family,
    wired: GraphCell,
    view: GraphView,
    recorded: Mapping[str, Option],
) -> Cell:
    """Return a cell with all that the graph shows about it."""
    shown, is_grid = _shown_options(cell, wired, view), cell.family != family.name
    if not is_grid:
        family = _shown_family(family, wired, shown)
    options = options_from_files(family, shown, recorded=recorded)
    read = cell._replace(family=cell.family if is_grid else family.name, options=options)
    known = {name: role for role, stored in cell.variables.items() for name in stored}

    def role_of(node: Node) -> str | None:
        variable = view.variable(node)
        return "" if variable is None else known.get(variable.name)

    found = explain(view.graph, view.sources, read, wired, role_of)
    touched = {name for names in found.unexplained.values() for name in names}
    peepholes = cell.peepholes if wired.peephole_attribute is None else wired.peephole_attribute
    order = wired.gate_order
    states = count_layers(view.graph, wired)
    differing = wired.differing - ({"proj_clip"} if cell.num_proj is None else set())
    return read._replace(
        documented={},  # the graph shows them, or something else than a default
        notes=(
            *cell.notes,
            *(
                f"the graph uses the cell more than once, with {name} not the same each time"
                for name in OPTIONS
                if name in differing
            ),
            *(words for words, seen in _seen_notes(wired) if seen),
            *([_in_layers(cell.name, states)] if states > 1 else []),
            *([f"its step does not use {', '.join(found.unused)}"] if found.unused else []),
        ),
        alternatives=cell.alternatives if is_grid else (),
        gate_order=order if order and len(order) == len(cell.gate_order) else cell.gate_order,
        options=options_from_files(family, shown, touched, recorded),
        unexplained=tuple(found.unexplained),
        extra=cell.extra
        | ({"m_first": True} if wired.m_first else {})
        | ({"takes_sum": True} if wired.takes_sum else {})
        | ({"uses": states} if states > 1 else {}),
        peepholes=None if found.unused else peepholes,
    )


def _in_layers(name: str, states: int) -> str:
    cells = ", ".join(printable(use_of(name, use)) for use in range(states))
    return f"the graph steps it as {states} layers, each with a state of its own: {cells}"


def _seen_notes(wired: GraphCell) -> tuple[tuple[str, bool], ...]:
    return (
        ("the first rows of its kernel are those of m, not of the input", wired.m_first),
        ("the graph adds its input to its output: a residual connection", wired.is_residual),
        (MIXED, wired.is_mixed),
    )
