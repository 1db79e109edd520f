"""The parts of cells that another program does not have."""

from __future__ import annotations

from collections.abc import Collection

from lstmstate.cells.activations import BY_NAME
from lstmstate.engines.canonical_network import CanonicalCell, Network
from lstmstate.errors import UnsupportedError
from lstmstate.named_tuple import NamedTuple


class Expressible(NamedTuple):
    """What a program has for cells beyond the plain step of tanh and sigmoid.

    Attributes:
        dtypes: the types that it computes in.
        activations: its functions for j and the new c.
        gates: its functions for i, f and o.
        splits_activations: whether those of j and of the new c may be two.
        narrow_projection: whether m may be projected to fewer than num_units.
        wide_projection: whether m may be projected to num_units or more.
        coupled_gates: whether it computes 1 - f; others take negative weights of f for i.
        untyped: the types that it does not have a function in: (type, function).
    """

    dtypes: Collection[str] = ("float32",)
    activations: Collection[str] = ("tanh",)
    gates: Collection[str] = ("sigmoid",)
    splits_activations: bool = False
    peepholes: bool = False
    narrow_projection: bool = False
    wide_projection: bool = False
    clips: bool = False
    layer_norm: bool = False
    coupled_gates: bool = False
    untyped: Collection[tuple[str, str]] = ()


def missing_parts(cell: CanonicalCell, has: Expressible) -> list[str]:
    """Return all that a program does not have of a cell, as words."""
    units, width = cell.widths
    is_projected, gates = cell.projection is not None, cell.recurrent_activation
    is_coupled = "i" not in cell.gates
    lacks = {
        f"dtype {cell.dtype}": cell.dtype.name not in has.dtypes,
        "peepholes": bool(cell.peepholes) and not has.peepholes,
        "projection": is_projected and not (has.narrow_projection or has.wide_projection),
        "a projection to num_units or more": is_projected
        and width >= units
        and has.narrow_projection
        and not has.wide_projection,
        "proj_clip": is_projected and cell.proj_clip is not None and not has.clips,
        "cell_clip": cell.cell_clip is not None and not has.clips,
        "layer norm": bool(cell.norms) and not has.layer_norm,
        f"i = 1 - f with the activation {gates}": (
            is_coupled and not has.coupled_gates and not BY_NAME[gates].is_symmetric
        ),
        f"two activations, {cell.candidate} and {cell.activation}": (
            cell.candidate != cell.activation and not has.splits_activations
        ),
    }
    for name in (cell.candidate, cell.activation):
        lacks[f"activation {name}"] = name not in has.activations
    lacks[f"recurrent activation {gates}"] = gates not in has.gates
    for name in (cell.candidate, cell.activation, gates):
        lacks[f"{name} of {cell.dtype}"] = (cell.dtype.name, name) in has.untyped
    return [part for part, is_missing in lacks.items() if is_missing]


def refuse_missing_parts(network: Network, has: Expressible, program: str, advice: str) -> None:
    """Raise an UnsupportedError if a program cannot express a cell, with all that it lacks."""
    for cell in network.cells:
        found = missing_parts(cell, has)
        if found:
            raise UnsupportedError(
                f"{program} cannot express this {cell.family}: it has {', '.join(found)}",
                tensor=cell.name,
                advice=advice,
            )
