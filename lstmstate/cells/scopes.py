"""Variables by scope, leaf and role, and the meaning of the words in scopes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lstmstate.cells import variable_names as names
from lstmstate.cells.cell import STRANGE
from lstmstate.cells.families import OLD, PLAIN, PLAIN_LEAVES
from lstmstate.cells.family import Family, Leaves
from lstmstate.cells.from_graph.match_variables import Stored
from lstmstate.cells.shapes import Shapes

Scope = dict[str, Stored]  # leaf → variable
Roles = dict[str, tuple[Stored, ...]]

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


def group(variables: Mapping[str, Stored]) -> dict[str, Scope]:
    """Return for every scope the variables one or two parts below it.

    Parts of a partitioned variable that were saved by hand are one further: `kernel/part_0`.
    """
    scopes: dict[str, Scope] = {}
    for path, variable in variables.items():
        parts = path.split("/")
        deepest = 3 if parts[-1].startswith("part_") else 2
        for depth in range(1, deepest + 1):
            if len(parts) >= depth:
                scope = "/".join(parts[:-depth])
                scopes.setdefault(scope, {})["/".join(parts[-depth:])] = variable
    return scopes


def by_role(leaves: Scope, pattern: Leaves) -> Roles:
    """Return the variables of a scope by role, shards in the order of their numbers."""
    roles: Roles = {}
    for role, leaf in pattern.items():
        # Parts of a variable that were saved by hand are called `…/part_0`, `…/part_1`, …
        for template in (leaf, f"{leaf}/part_{{k}}"):
            shards: list[Stored] = []
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
    leaves: Scope, stored: Iterable[Stored], units: int | None = None
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


def is_called(scope: str, leaves: Scope, family: Family) -> bool:
    """Whether a scope, or that of its variables in the graph, ends with a word of a family."""
    scopes = {scope, *(names.parent(v.full_name) for v in leaves.values() if v.full_name)}
    around = "bidirectional_grid_lstm_cell" if family.name.startswith("Bidirectional") else None
    return any(
        names.word(names.last(called)) in family.words
        and (around is None or names.word(names.last(names.parent(called))) == around)
        for called in scopes
    )


def is_something_else(scope: str) -> bool:
    """Whether the last part of a scope names another layer than an LSTM."""
    word = names.word(names.last(scope))
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


def has_leaves(leaves: Scope, wanted: list[str]) -> bool:
    """Whether all of some leaves are there, whole or as their first shard or part."""
    firsts = (leaf.replace("{k}", "0") for leaf in wanted)
    return all(first in leaves or f"{first}/part_0" in leaves for first in firsts)


def two_kernels(kernels: list[tuple[Stored, ...]], bias: tuple[Stored, ...]) -> Roles:
    """Return the input kernel `[I, 4H]` and the recurrent one `[H, 4H]` by role, from shapes."""
    if [len(stored[0].shape) for stored in kernels] != [2, 2]:
        return {}
    first, second = kernels
    units = first[0].shape[1] // 4
    if second[0].shape[0] != units and first[0].shape[0] == units:
        first, second = second, first
    return {"kernel": first, "recurrent_kernel": second, "bias": bias}
