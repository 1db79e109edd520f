"""Variables into cells: by their scopes and leaves, by their shapes, by the graph.

Three passes, the surest first: scopes that a row of the table of families knows; cells that
the graph shows, whatever their scope is called; and, for what no graph speaks of, variables
whose shapes are those of a cell and whose surroundings do not say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from lstmstate.cells import names
from lstmstate.cells.families import (
    FAMILIES,
    NOT_LSTM_CELLS,
    NOT_LSTM_WORDS,
    OLD,
    PLAIN,
    PLAIN_LEAVES,
    Family,
    Leaves,
)
from lstmstate.cells.graph_view import GraphView, Stored
from lstmstate.cells.model import Cell
from lstmstate.cells.shapes import PEEPHOLES, Shapes, Widths
from lstmstate.cells.wired import Wired
from lstmstate.checkpoint.graph import Graph

OPTIONS = (
    "forget_bias",
    "cell_clip",
    "proj_clip",
    "activation",
    "state_is_tuple",
    "batch_size",
    "time_major",
)


Scope = dict[str, Stored]  # leaf → variable
Roles = dict[str, tuple[Stored, ...]]


class Recognition:
    """The cells among some variables.

    Args:
        variables: all variables of a checkpoint.
        graph: the graph beside it, if there is one.

    Attributes:
        cells: in the order of their names.
        slots: names of the variables that optimizers and averages keep beside others.
        roles: name of a variable → (its role, the name of its cell).
        graph: the graph's cells, tied to the variables; None without a graph.
        candidates: scopes whose shapes are those of a cell, and nothing says whether they are.
    """

    def __init__(self, variables: Iterable[Stored], graph: Graph | None) -> None:
        everything = list(variables)
        paths = frozenset(variable.path for variable in everything)
        self.slots = frozenset(
            variable.name
            for variable in everything
            if variable.is_slot or names.is_slot(variable.path, paths)
        )
        self._kept = {v.path: v for v in everything if v.name not in self.slots}
        self._scopes = _scopes(self._kept.values())
        self.graph = GraphView(graph, self._kept) if graph is not None else None
        self._taken: set[str] = set()
        self._found: dict[str, Cell] = {}
        self.candidates: list[str] = []
        self._by_family()
        self._by_graph()
        self._by_shape()
        self.cells = [self._found[name] for name in sorted(self._found, key=names.order)]
        self.roles = {
            variable: (role, cell.name)
            for cell in self.cells
            for role, stored in cell.variables.items()
            for variable in stored
        }

    # ---- by words and leaves

    def _by_family(self) -> None:
        for scope, leaves in self._scopes.items():
            for family in FAMILIES:
                if self._try(scope, leaves, family):
                    break

    def _try(self, scope: str, leaves: Scope, family: Family) -> bool:
        """Add the cell of a scope if it is of this family."""
        named = _is_called(scope, family)
        if not named and not family.by_leaves:
            return False
        for era, pattern in family.leaves.items():
            roles = _roles(leaves, pattern)
            if not all(role in roles for role in family.required):
                continue
            if any(role in roles for role in family.forbidden):
                continue
            widths = family.widths(_shapes(roles))
            if widths is not None and not self._is_dense(roles):
                self._add(scope, family, era or _era_of_scope(scope), roles, widths)
                return True
        return False

    def _is_dense(self, roles: Roles) -> bool:
        """Whether the graph shows that what is called a cell is a dense layer."""
        kernel = roles.get("kernel", ())
        return self.graph is not None and len(kernel) == 1 and self.graph.is_dense(kernel[0])

    # ---- by the graph

    def _by_graph(self) -> None:
        """Add the cells that the graph shows and no family knows by name."""
        for wired in self.graph.cells if self.graph else ():
            assert self.graph is not None
            if not wired.complete:
                continue
            kernels = [self.graph.stored(shards) for shards in wired.kernels]
            if not all(kernels) or any(v.name in self._taken for k in kernels for v in k):
                continue
            first = kernels[0][0]
            scope, pattern, era = _place(first.path)
            leaves = self._scopes.get(scope, {})
            roles = _roles(leaves, pattern)
            if len(kernels) == 1:
                roles["kernel"] = kernels[0]
                roles.setdefault("bias", self.graph.stored(wired.biases[:1]))
            else:
                roles = _two(kernels, self.graph.stored(wired.biases[:1]))
            roles = {role: stored for role, stored in roles.items() if stored}
            family = _unnamed(wired, roles)
            widths = family.widths(_shapes(roles))
            if widths is not None:
                self._add(scope, family, era, roles, widths, wired)

    # ---- by shape alone

    def _by_shape(self) -> None:
        """Add what has a cell's shapes in a place where a cell would be, without a graph."""
        for scope, leaves in self._scopes.items():
            if _is_something_else(scope):
                continue
            for era, pattern in PLAIN_LEAVES:
                roles = _roles(leaves, pattern)
                if not {"kernel", "bias"} <= set(roles) or self._spoken_for(roles):
                    continue
                widths = PLAIN.widths(_shapes(roles))
                if widths is None or widths.num_units is None:
                    continue
                verdict = self._surroundings(scope, roles, widths.num_units)
                if verdict:
                    self._add(scope, PLAIN, era, roles, widths)
                elif verdict is None:
                    self.candidates.append(scope)
                break

    def _spoken_for(self, roles: Roles) -> bool:
        """Whether a variable belongs to a cell, or stands in a graph that shows no cell there."""
        kernel = roles["kernel"]
        known = self.graph is not None and any(self.graph.knows(v) for v in kernel)
        return known or any(v.name in self._taken for v in kernel)

    def _surroundings(self, scope: str, roles: Roles, units: int) -> bool | None:
        """Weigh what stands around a kernel `[I + H, 4H]`: True a cell, False none, None open.

        What follows a cell takes H inputs (2H behind a pair of directions, H + H' in the next
        cell); what follows a dense layer of that shape takes 4H.
        """
        if _RECURRENT_LEAF in {names.last(v.path) for v in roles["kernel"]}:
            return True
        if "lstm" in names.word(names.last(scope)) or names.looks_recurrent(scope):
            return True
        rows = {
            variable.shape[0]
            for path, variable in self._kept.items()
            if len(variable.shape) == 2 and not path.startswith(f"{scope}/" if scope else "\0")
        }
        as_cell, as_dense = bool(rows & {units, 2 * units}), 4 * units in rows
        return as_cell if as_cell != as_dense else None

    def _add(
        self,
        scope: str,
        family: Family,
        era: str | None,
        roles: Roles,
        widths: Widths,
        wired: Wired | None = None,
    ) -> None:
        stored = [variable for shards in roles.values() for variable in shards]
        if any(variable.name in self._taken for variable in stored):
            return
        if wired is None and self.graph is not None:
            wired = self.graph.of(stored)
        self._taken.update(variable.name for variable in stored)
        cell = _cell(scope, family, era, roles, widths)
        if wired is not None and self.graph is not None:
            cell = _with_graph(cell, wired, self.graph)
        self._found[scope] = cell


_RECURRENT_LEAF = "W_0"  # no layer but a cell of 0.5 to 0.12 has W_0 with B


def _scopes(variables: Iterable[Stored]) -> dict[str, Scope]:
    """Return for every scope the variables that lie one or two parts below it."""
    scopes: dict[str, Scope] = {}
    for variable in variables:
        parts = variable.path.split("/")
        for depth in (1, 2):
            if len(parts) >= depth:
                scope = "/".join(parts[:-depth])
                scopes.setdefault(scope, {})["/".join(parts[-depth:])] = variable
    return scopes


def _roles(leaves: Scope, pattern: Leaves) -> Roles:
    """Return the variables of a scope by role, shards in the order of their numbers."""
    roles: Roles = {}
    for role, leaf in pattern.items():
        shards: list[Stored] = []
        while (name := leaf.replace("{k}", str(len(shards)))) in leaves:
            shards.append(leaves[name])
            if name == leaf:
                break  # it has no number: there is only one
        if shards:
            roles[role] = tuple(shards)
    return roles


def _shapes(roles: Roles) -> Shapes:
    return {role: tuple(v.shape for v in stored) for role, stored in roles.items()}


def _is_called(scope: str, family: Family) -> bool:
    parts = scope.split("/")
    word = names.word(parts[-1])
    if family.name.startswith("Bidirectional") and len(parts) > 1:
        return word in family.words and names.word(parts[-2]) == "bidirectional_grid_lstm_cell"
    return word in family.words and not family.name.startswith("Bidirectional")


def _is_something_else(scope: str) -> bool:
    """Whether the last part of a scope names a layer that is no LSTM."""
    word = names.word(names.last(scope))
    return word in NOT_LSTM_CELLS or bool(NOT_LSTM_WORDS & set(word.split("_")))


def _era_of_scope(scope: str) -> str | None:
    """Return the era of a family whose leaves never changed: its class word was CamelCase first."""
    last = names.last(scope)
    return OLD if last[:1].isupper() else None


_GRID = re.compile(r"Grid\d*(Basic)?LSTMCell")


def _grid(scope: str) -> str | None:
    """Return the class of the grid that a cell is a dimension of: `Grid2LSTMCell/recurrent/…`."""
    return next((part for part in scope.split("/") if _GRID.fullmatch(part)), None)


def _place(path: str) -> tuple[str, Leaves, str | None]:
    """Return the scope of a kernel's path, the leaves that belong to it, and their era."""
    for era, pattern in PLAIN_LEAVES:
        leaf = pattern["kernel"].replace("{k}", "0")
        if path == leaf or path.endswith(f"/{leaf}"):
            return path[: -len(leaf)].rstrip("/"), pattern, era
    return names.parent(path), {}, None


def _two(kernels: list[tuple[Stored, ...]], bias: tuple[Stored, ...]) -> Roles:
    """Tell the input kernel `[I, 4H]` from the recurrent one `[H, 4H]` by shape."""
    if len(kernels) != 2 or len(kernels[0][0].shape) != 2:
        return {}
    first, second = kernels
    units = first[0].shape[1] // 4
    if second[0].shape[0] != units and first[0].shape[0] == units:
        first, second = second, first
    return {"kernel": first, "recurrent_kernel": second, "bias": bias}


def _row(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


def _unnamed(wired: Wired, roles: Roles) -> Family:
    """Return the family of a cell that only the graph shows."""
    if "recurrent_kernel" in roles:
        return replace(_row("Keras LSTM"), name="LSTM", options={})
    if wired.block:
        return _row(_BLOCK_FAMILIES[wired.block])
    if len(roles["kernel"][0].shape) > 2:
        return _row("ConvLSTMCell")
    if wired.gate_order in ("ijfo", None):
        return PLAIN
    if wired.gate_order == "jfo":
        return _row("CoupledInputForgetGateLSTMCell")
    return replace(PLAIN, name="LSTM", shares_names_with=())


def _cell(scope: str, family: Family, era: str | None, roles: Roles, widths: Widths) -> Cell:
    stored = [variable for shards in roles.values() for variable in shards]
    kernel = next(iter(roles.values()))[0]
    always = era == OLD and "kernel" in roles and names.last(kernel.path) == "W"
    peepholes = widths.peepholes
    if peepholes is None:
        peepholes = any(role in roles for role in PEEPHOLES)
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
        gate_order=family.gate_order,
        # LSTMFusedCell and LSTMBlockCell of 0.10 and 0.11 made them, used or not.
        peepholes=None if peepholes and always else peepholes,
        layer_norm=any(role.endswith("/gamma") for role in roles),
        options={name: family.option(name) for name in OPTIONS},
        variables={role: tuple(v.name for v in shards) for role, shards in roles.items()},
        parameters=sum(variable.size for variable in stored),
        nbytes=sum(variable.nbytes or 0 for variable in stored),
        alternatives=family.shares_names_with,
        shard_axis=widths.shard_axis,
        layer=layer[1] if layer else None,
        direction=direction[1] if direction else None,
        extra={} if widths.groups is None else {"number_of_groups": widths.groups},
    )


# What a cell with the names of LSTMCell is, if one operation does its work.
_BLOCK_FAMILIES = {
    "LSTMBlockCell": "LSTMBlockCell",
    "LSTMFusedCell": "LSTMBlockCell",
    "BlockLSTM": "LSTMBlockFusedCell",
    "BlockLSTMV2": "BlockLSTMV2",
    "FusedLSTM": "LSTMBlockFusedCell",
}


def _with_graph(cell: Cell, wired: Wired, view: GraphView) -> Cell:
    """Add what the graph tells of a cell."""
    options = dict(cell.options)
    for name, option in wired.options.items():
        # What a graph shows but does not tell (a forget bias that is fed) is no default either.
        if option.source == "graph" or name == "forget_bias":
            options[name] = option
    if wired.frame is not None and wired.frame in view.time_major:
        options["time_major"] = view.time_major[wired.frame]
    elif "time_major" in wired.options:
        options["time_major"] = wired.options["time_major"]
    family, alternatives = cell.family, cell.alternatives
    if family == "BasicLSTMCell" and options["cell_clip"].value is not None:
        family = PLAIN.name  # which has clips, and was given the other's name
    if family == PLAIN.name:
        family, alternatives = _BLOCK_FAMILIES.get(wired.block or "", family), ()
        always = _row(family).options
        options |= {name: always[name] for name in options if name in always}
    order = wired.gate_order
    settled = order if order and len(order) == len(cell.gate_order) else cell.gate_order
    return replace(
        cell,
        family=family,
        notes=tuple(
            f"the graph uses the cell more than once, with {name} not the same each time"
            for name in OPTIONS
            if name in wired.differing
        ),
        alternatives=alternatives,
        gate_order=settled,
        options=options,
        peepholes=cell.peepholes if wired.peephole_attribute is None else wired.peephole_attribute,
    )
