"""Lookup of a tensor by the names of other TensorFlow versions, classes and scopes.

TensorFlow renamed the variables of its cells twice, every class and wrapper has words of its own,
and users put scopes around them: to the code that restores a file, one tensor has many names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lstmstate.cells import variable_names as names
from lstmstate.cells.cell import Cell
from lstmstate.cells.families import FAMILIES
from lstmstate.cells.family import Family
from lstmstate.checkpoint import object_graph
from lstmstate.named_tuple import NamedTuple


class Counterpart(NamedTuple):
    """The variables of a file for a name that is not in it.

    Attributes:
        names: the variables, more than one if the tensor is stored in shards.
        era: the age of the names of their cell; None if there is no cell, or its age is unknown.
    """

    names: tuple[str, ...]
    era: str | None = None


_ALIKE = frozenset(row.name for row in FAMILIES if row.is_interchangeable)
_ALIKE_WORDS = frozenset(word for row in FAMILIES if row.name in _ALIKE for word in row.words)
# Scopes that TensorFlow itself puts around cells, in one era or another: no mark of any cell.
_AROUND = frozenset(
    """
    rnn multi_rnn_cell bidirectional_rnn bi_rnn stack_bidirectional_rnn stack_rnn cell cells
    output_projection_wrapper input_projection_wrapper embedding_wrapper
    """.split()
) | {""}
# Different parts of one model: neither is another name for the other.
_OPPOSITES = (("encoder", "decoder"), ("generator", "discriminator"), ("actor", "critic"))
# Names that variables of any layer may have: they mean nothing without a scope.
_COMMON = {"variable"} | {
    names.word(names.last(leaf))
    for row in FAMILIES
    for pattern in row.leaves.values()
    for leaf in pattern.values()
}
_VALUE, _OBJECT_SLOT = "/.ATTRIBUTES/VARIABLE_VALUE", "/.OPTIMIZER_SLOT/"
_PART = re.compile(r"/part_\d+$")

Path = tuple[str, str]  # the path of a variable, and the suffix of a slot or average
Facts = dict[str, str]  # of a scope: "layer", "side", "number of rnn", … and their values


class _Reading(NamedTuple):
    """A way to read a name: as a role in a cell of some families.

    `words` are those of their classes. If there are none the scope has a name of its own, and the
    cell has to have it too.
    """

    role: str
    families: frozenset[str]
    words: frozenset[str]
    scope: str


def find_counterparts(
    name: str, variables: Iterable[str], cells: Iterable[Cell]
) -> list[Counterpart]:
    """Return the variables of a file that are the tensor of a name, under other names.

    The name of a cell's tensor may be of another era or class, or in another scope. If it has parts
    that the file's names do not have (a scope, a number), only one cell may match. Any other
    name is searched in the scopes around it, in snake case or not, and with or without ":0".

    Args:
        name: of a variable, or of the slot of an optimizer or an average for one.
        variables: the names of all variables of the file.
        cells: the cells among them.

    Returns:
        Those that fit best, all equally well; [] if none does.

    >>> find_counterparts("dense/kernel:0", ["model/Dense/kernel", "model/dense_1/kernel"], [])
    [Counterpart(names=('model/Dense/kernel',), era=None)]
    """
    path, slot = _split(name)
    there = {variable: _split(variable) for variable in variables}
    readings, cells = set(_readings(_PART.sub("", path))), list(cells)
    best = _best(readings, cells)
    if best:
        found = [
            (_find_stored(path, slot, cell.variables[role], there), cell) for cell, role in best
        ]
        return [Counterpart(stored, cell.era) for stored, cell in found if stored]
    # Cells that the name could belong to were compared, and did not fit.
    kin = [cell for cell in cells if any(cell.family in one.families for one in readings)]
    weighed = {_split(v)[0] for cell in kin for shards in cell.variables.values() for v in shards}
    others = {v: key for v, (key, of) in there.items() if of == slot and key not in weighed}
    return [Counterpart((variable,)) for variable in _same_name(path, others)]


def _split(name: str) -> Path:
    """Return the path of a variable, and the suffix of an optimizer or an average."""
    key, _, slot = name.partition(_OBJECT_SLOT)
    path = object_graph.object_path(key + _VALUE if slot else name) or name.removesuffix(":0")
    if slot or not names.is_slot(path, {}):
        return path, slot
    return names.parent(path), names.last(path)


def _find_stored(
    asked: str, slot: str, shards: tuple[str, ...], there: dict[str, Path]
) -> tuple[str, ...]:
    """Return the variables of a tensor, or their slots: below them, or in an optimizer's scope."""
    # Among several shards prefer one with the same leaf.
    same = [s for s in shards if names.last(_split(s)[0]) == names.last(asked)] or list(shards)
    if not slot:
        return tuple(same)
    return tuple(
        variable
        for path in (_split(shard)[0] for shard in same)
        for variable, (other, of) in there.items()
        if of == slot
        and (other == path or (other.endswith(f"/{path}") and (other, "") not in there.values()))
    )


# ---- tensors of cells


def _readings(path: str) -> Iterator[_Reading]:
    """Yield the ways to read a path as a cell's tensor: leaves have one part or two."""
    parts = path.split("/")
    for depth in (2, 1):
        scope, leaf = "/".join(parts[:-depth]), "/".join(parts[-depth:])
        words = [word for word, _ in _parts(scope)]
        for row in FAMILIES:
            role, alike = _role(row, leaf), row.name in _ALIKE
            known = _ALIKE_WORDS if alike else frozenset(row.words)
            # "lstm_cell" alone is not Keras's, which has it in a scope called "lstm".
            own = known if alike else known - _ALIKE_WORDS
            named = known.issuperset(words[-1:]) and own.intersection(words[-2:])
            # An object calls its cell "cell", of any class.
            if role and (named or words[-1:] == ["cell"]):
                yield _Reading(role, _ALIKE if alike else frozenset([row.name]), known, scope)
            if role and alike:
                yield _Reading(role, _ALIKE, frozenset(), scope)


def _role(family: Family, leaf: str) -> str | None:
    """Return the role of a leaf in the cells of a family, in any era."""
    for pattern in family.leaves.values():
        for role, known in pattern.items():
            if re.fullmatch(re.escape(known).replace(r"\{k\}", r"\d+"), leaf):
                return role
    return None


def _split_number(part: str) -> tuple[str, str]:
    """Return a part of a name in snake case, and the number behind it."""
    stem = part.rstrip("0123456789")
    return names.word(stem.strip("_-")), part[len(stem) :]


def _parts(scope: str) -> list[tuple[str, str]]:
    """Return the parts of a scope and their numbers, without layers and directions."""
    parts = names.remove_direction(scope).split("/")
    return [_split_number(part) for part in parts if not names.layer(part)]


def _read_facts(scope: str, words: frozenset[str]) -> Facts:
    """Return the facts about a cell in its scope; `words` are those of classes."""
    layers, side, parts = names.layers(scope), names.direction(scope), _parts(scope)
    facts = {"layer": " in ".join(str(number) for _, number in layers[::-1])} if layers else {}
    facts |= {"side": side[1]} if side else {}
    facts |= {pair[0]: word for pair in _OPPOSITES for word in pair if word in scope.lower()}
    while parts and parts[-1][0] in words:
        facts["class"], number = parts.pop()
        facts |= {"number of the cell": number} if number else {}
    for word, number in parts:
        around = word in _AROUND
        facts |= {} if around else {f"scope {word}": ""}
        facts |= {f"number of {'rnn' if around else word}": number} if number else {}
    return facts


def _best(readings: Iterable[_Reading], cells: list[Cell]) -> list[tuple[Cell, str]]:
    """Return the cells that readings fit best, and the role in them."""
    ranked = []
    for reading in readings:
        asked, last = _read_facts(reading.scope, reading.words), _parts(reading.scope)[-1:]
        for cell in cells:
            named = reading.words or _parts(cell.name)[-1:] == last
            if named and cell.family in reading.families and reading.role in cell.variables:
                rank = _rank(asked, _read_facts(cell.name, reading.words))
                ranked += [(rank, cell, reading.role)] if rank else []
    best = min((rank[:3] for rank, _, _ in ranked), default=(0,))
    found = {cell.name: (rank, cell, role) for rank, cell, role in ranked if rank[:3] == best}
    if best[0] and (len(found) > 1 or any(differs for (*_, differs), _, _ in found.values())):
        return []
    return [(cell, found[cell.name][2]) for cell in cells if cell.name in found]


def _rank(asked: Facts, cell: Facts) -> tuple[int, bool, bool, bool] | None:
    """Return the distance of a cell from a name; None if it is surely another cell.

    In this order: the number of facts that it lacks or has with another value; whether it has more
    facts; whether it is of another class; whether it has any fact with another value (a number,
    one of opposites).
    """
    differing = {what: value for what, value in asked.items() if cell.get(what) != value}
    apart = bool(differing.pop("class", "") and "class" in cell)
    more = bool(cell.keys() - asked.keys())
    # A cell outside of stacks may have become the one layer of a stack, but no other.
    if any(differing.get(place, "0") != "0" for place in ("side", "layer")):
        return None
    if apart and differing and more:
        return None  # only its shape would match
    return len(differing), more, apart, any(what in cell for what in differing)


# ---- all other tensors


def _same_name(asked: str, others: dict[str, str]) -> list[str]:
    """Return the variables of the same name, except for case and the scopes around it."""
    wanted, ranked = [_split_number(part) for part in asked.split("/")], []
    for variable, path in others.items():
        parts = [_split_number(part) for part in path.split("/")]
        shared = min(len(parts), len(wanted))
        if parts[-shared:] == wanted[-shared:] and (shared > 1 or parts[-1][0] not in _COMMON):
            exact = path.split("/")[-shared:] == asked.split("/")[-shared:]
            ranked.append(((-shared, len(parts) != len(wanted), not exact), variable))
    best = min((rank for rank, _ in ranked), default=None)
    return [variable for rank, variable in ranked if rank == best]
