"""The layouts of a state: one table, each row two functions that undo one another.

With c_k and m_k the halves of cell k, B the batch, and any more axes before it:

    tuple    c_0 [B, c], m_0 [B, m], c_1, m_1, …    LSTMStateTuple, state_is_tuple=True
    flat     [B, c_0 | m_0 | c_1 | m_1 …]           state_is_tuple=False
    stacked  [B, 2, units] for each cell            tf.stack([c, m], axis=1)
    layered  [L, 2, B, units], [2, B, units]        numpy.save of LSTMStateTuples
    keras    m_0 [B, m], c_0 [B, c], …: h first     return_state of Keras
    torch    h_n [L, B, m], c_n [L, B, c]           torch.nn.LSTM

Source of the flat order: TensorFlow 0.5 to 1.15, BasicLSTMCell.call (`array_ops.split(state, 2,
1)`), LSTMCell.call (c in [0, num_units), m after it) and MultiRNNCell.call (cell after cell).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.cells.cell import CellShape, StateWidths
from lstmstate.cells.variable_names import direction
from lstmstate.errors import LstmstateError, UnsupportedError
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.state import LSTMState, StackState, State

if TYPE_CHECKING:
    from lstmstate.state.state import Array, DType

PASS_WIDTHS = "pass the widths: `cells=...`, or `checkpoint=...`"  # advice
_LONGEST = 1000  # the names of cells in published checkpoints stay below 200

Pairs = list[tuple["Array", "Array"]]
Widths = Sequence[StateWidths] | None


class Structure(NamedTuple):
    """The cells, axes and dtype of a state in any layout.

    Attributes:
        is_stack: whether it belongs to a stack, which may have one cell only.
        lead: the axes before the widths.
    """

    cells: tuple[CellShape, ...]
    is_stack: bool
    lead: tuple[int, ...]
    dtype: DType

    @property
    def widths(self) -> list[StateWidths]:
        """The widths of all cells."""
        return [cell.widths for cell in self.cells]

    @property
    def nbytes(self) -> int:
        """The bytes of all values."""
        flat = sum(cell.widths.flat for cell in self.cells)
        return flat * math.prod(self.lead) * self.dtype.itemsize

    def state(self, pairs: Sequence[tuple[Array, Array]]) -> State:
        """Return the state that some (c, m) make, with the names of the cells."""
        cells = [LSTMState(c, m, cell.name) for (c, m), cell in zip(pairs, self.cells, strict=True)]
        return StackState(cells) if self.is_stack else cells[0]


class Layout(NamedTuple):
    """One way of laying c and m in arrays.

    Attributes:
        name: one word, as users give it.
        words: a line of help.
        arrays: the arrays of a state, by name; they are views if NumPy can make them.
        pairs: (c, m) of each cell in such arrays, always views; only "flat" uses
            the widths, which its array does not show.
        names: the names of the arrays of one cell, or those of the whole state.
        per_cell: whether each cell has arrays of its own.
        inserted: how many axes of a stack, and of one cell, come before the batch.
    """

    name: str
    words: str
    arrays: Callable[[Sequence[LSTMState], bool], list[Array]]
    pairs: Callable[[Sequence[Array], Widths, bool], Pairs]
    names: tuple[str, ...]
    per_cell: bool = False
    inserted: tuple[int, int] = (0, 0)

    def array_names(self, cells: Sequence[CellShape], *, is_stack: bool) -> list[str]:
        """Return the names of the arrays in a file that holds several."""
        if not self.per_cell or not is_stack:
            return list(self.names)
        scopes = scopes_of([cell.name for cell in cells])
        return [f"{scope}/{name}" for scope in scopes for name in self.names]

    def axis_of(self, lead_axis: int, structure: Structure) -> int:
        """Return the axis of these arrays that is a leading axis of c and m."""
        before = self.inserted[0] if structure.is_stack else self.inserted[1]
        return lead_axis + (before if lead_axis == len(structure.lead) - 1 else 0)


def scopes_of(names: Sequence[str]) -> list[str]:
    """Return under what to file the cells of a stack: their names, or numbers.

    Names come from strangers, and not every kind of file can hold every name.

    >>> scopes_of(["", ""]), scopes_of(["rnn/a", "rnn/b"])
    (['cell_0', 'cell_1'], ['rnn/a', 'rnn/b'])
    """
    can_be = all(map(_can_be_filed, names)) and len(set(names)) == len(names)
    return list(names) if can_be else [f"cell_{number}" for number in range(len(names))]


def _can_be_filed(name: str) -> bool:
    """Whether a name can be that of a group in an HDF5 file and a folder in an archive."""
    parts = name.split("/")
    return name.isprintable() and len(name) <= _LONGEST and not {"", ".", ".."} & set(parts)


def to_arrays(layout: Layout, state: State) -> dict[str, Array]:
    """Return the arrays of a state in a layout, by the names that files give them.

    >>> import numpy as np
    >>> state = LSTMState(np.zeros((4, 3)), np.ones((4, 2)))
    >>> {name: array.shape for name, array in to_arrays(LAYOUTS["keras"], state).items()}
    {'h': (4, 2), 'c': (4, 3)}
    """
    is_stack = isinstance(state, StackState)
    cells = state.cells if isinstance(state, StackState) else (state,)
    shapes = [CellShape(cell.cell, cell.widths) for cell in cells]
    names = layout.array_names(shapes, is_stack=is_stack)
    return dict(zip(names, layout.arrays(cells, is_stack), strict=True))


def structure_of(
    layout: Layout, arrays: Sequence[Array], cells: Sequence[CellShape] | None, *, is_stack: bool
) -> Structure:
    """Return the structure of the state in some arrays of a layout.

    Args:
        cells: the names and widths, if they are known.
    """
    pairs = layout.pairs(arrays, [cell.widths for cell in cells] if cells else None, is_stack)
    found = [LSTMState(c, m) for c, m in pairs]
    StackState(found)
    if len(found) > 1 and not is_stack:
        raise LstmstateError(f"here are {len(found)} cells, where one was expected")
    if cells and len(cells) != len(found):
        raise LstmstateError(f"here are {len(found)} cells, where {len(cells)} were expected")
    for number, cell in enumerate(cells or ()):
        if found[number].widths != cell.widths:
            c, m = found[number].widths
            raise LstmstateError(
                f"c is {c} wide and m {m}, where {cell.widths.c} and {cell.widths.m} were expected",
                tensor=cell.name or (f"cell {number}" if is_stack else None),
                advice=_in_rows(found[number].c, cell.widths.c),
            )
    flat = sum(cell.widths.flat for cell in found) * found[0].dtype.itemsize
    if found[0].c.ndim > limits.NUMPY_RANK - 2 or flat > limits.MAX_INT64:
        raise UnsupportedError(f"no array can hold a state of the shape {list(found[0].c.shape)}")
    names = [cell.name for cell in cells] if cells else [""] * len(found)
    shapes = tuple(CellShape(n, cell.widths) for n, cell in zip(names, found, strict=True))
    return Structure(shapes, is_stack, found[0].batch_shape, found[0].dtype)


def _batch_axis(array: Array, inserted: int = 0) -> int:
    """Return where axes are inserted: before the batch, or before the width where it is alone."""
    return max(array.ndim - inserted - 2, 0)


def _layers(count: int) -> range:
    """Return the numbers of the cells along an axis; a file can claim any size."""
    if count > limits.MAX_CELLS:
        raise UnsupportedError(f"a stack of {count} cells is more than the {limits.MAX_CELLS} read")
    return range(count)


def _at(axis: int, *numbers: int) -> tuple[slice | int, ...]:
    """Return the index that picks something on some axes in a row, and all of those before."""
    return (slice(None),) * axis + numbers


def _equal(cells: Sequence[LSTMState], layout: str, *, halves: bool) -> None:
    """Refuse what cannot be laid side by side in one array."""
    widths = [cell.widths for cell in cells]
    if len(set(widths)) > 1 or (halves and any(c != m for c, m in widths)):
        alike = "c and m" if halves else "cells"
        raise LstmstateError(
            f"the layout {layout!r} needs {alike} as wide as each other, and this state has "
            + ", ".join(f"c {c} m {m}" for c, m in widths),
            advice="convert it to tuple or flat",
        )


def _one(arrays: Sequence[Array], layout: str) -> Array:
    if len(arrays) != 1:
        raise LstmstateError(f"the layout {layout!r} is one array, and here are {len(arrays)}")
    return arrays[0]


def _two_each(arrays: Sequence[Array], layout: str) -> Pairs:
    if len(arrays) % 2:
        raise LstmstateError(
            f"the layout {layout!r} has two arrays a cell, and here are {len(arrays)}"
        )
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def _tuple_arrays(cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    return [half for cell in cells for half in (cell.c, cell.m)]


def _tuple_pairs(arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
    return _two_each(arrays, "tuple")


def _keras_arrays(cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    return [half for cell in cells for half in (cell.m, cell.c)]


def _keras_pairs(arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
    return [(c, m) for m, c in _two_each(arrays, "keras")]


def _flat_arrays(cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    return [StackState(cells).flat()]


def _flat_pairs(arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
    array = _one(arrays, "flat")
    if not array.ndim:
        raise LstmstateError("expected a flat state [..., c + m], got a single number")
    width = array.shape[-1]
    if widths is None:
        if width % 2 or not width:
            raise LstmstateError(
                f"a flat state {width} wide has no two equal halves",
                advice=PASS_WIDTHS,
            )
        widths = [StateWidths(width // 2, width // 2)]
    if sum(cell.flat for cell in widths) != width:
        listed = " + ".join(f"c {c} + m {m}" for c, m in widths)
        raise LstmstateError(
            f"it is {width} wide, and {listed} are {sum(w.flat for w in widths)}",
            advice=_in_rows(array, sum(cell.flat for cell in widths))
            or "pass a state of these widths, or the widths of this one",
        )
    pairs, at = [], 0
    for cell in widths:
        (c, _), (m, end) = cell.columns(at)
        pairs.append((array[..., c:m], array[..., m:end]))
        at = end
    return pairs


def _in_rows(array: Array, width: int) -> str | None:
    """Return what to do about a vector that can have rows of a width, one after another."""
    if array.ndim != 1 or array.shape[0] % width or array.shape[0] == width:
        return None
    rows = array.shape[0] // width
    return f"if its {rows} rows of {width} follow one another, save it as [{rows}, {width}]"


def _stacked_arrays(cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    import numpy as np

    for cell in cells:
        _equal([cell], "stacked", halves=True)
    return [np.stack([cell.c, cell.m], axis=-2) for cell in cells]


def _stacked_pairs(arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
    for array in arrays:
        if array.ndim < 2 or array.shape[-2] != 2:
            raise LstmstateError(
                f"stacked means [..., 2, units], and the shape is {list(array.shape)}"
            )
    return [(array[..., 0, :], array[..., 1, :]) for array in arrays]


def _layered_arrays(cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    import numpy as np

    _equal(cells, "layered", halves=True)
    at = _batch_axis(cells[0].c)
    layers = [np.stack([cell.c, cell.m], axis=at) for cell in cells]
    return [np.stack(layers, axis=at) if is_stack else layers[0]]


def _layered_pairs(arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
    array = _one(arrays, "layered")
    inserted = 2 if is_stack else 1
    at = _batch_axis(array, inserted)
    pair = at + inserted - 1
    if array.ndim < inserted + 1 or array.shape[pair] != 2:
        raise LstmstateError(
            f"layered means {'[L, 2, batch, units]' if is_stack else '[2, batch, units]'}, "
            f"and the shape is {list(array.shape)}"
        )
    if not is_stack:
        return [(array[_at(at, 0)], array[_at(at, 1)])]
    return [(array[_at(at, k, 0)], array[_at(at, k, 1)]) for k in _layers(array.shape[at])]


def _torch_arrays(cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    import numpy as np

    _equal(cells, "torch", halves=False)
    refuse_what_torch_has_not([cell.cell for cell in cells])
    at = _batch_axis(cells[0].c)
    return [np.stack([cell.m for cell in cells], at), np.stack([cell.c for cell in cells], at)]


def refuse_what_torch_has_not(names: Sequence[str]) -> None:
    """Refuse the layers of two stacks, one of each direction.

    Each layer of a bidirectional torch.nn.LSTM reads both directions of the one before, and its
    states are layer 0 forward, layer 0 backward, layer 1 forward, …: the order of a
    stack_bidirectional_dynamic_rnn.
    """
    sides = [direction(name) for name in names]
    found = [side[1] for side in sides if side is not None]
    if len(set(found)) > 1 and found != ["forward", "backward"] * (len(names) // 2):
        raise UnsupportedError(
            "the layout 'torch' is that of layers which read both directions of the one before, "
            "and these are a stack of each direction",
            advice="convert each direction by itself, or into another layout",
        )


def _torch_pairs(arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
    if len(arrays) != 2 or any(array.ndim < 2 for array in arrays):
        raise LstmstateError("torch means h_n [L, batch, m] and c_n [L, batch, c]")
    h_n, c_n = arrays
    at = _batch_axis(h_n, 1)
    layers = h_n.shape[at]
    if h_n.ndim != c_n.ndim or c_n.shape[at] != layers or (not is_stack and layers != 1):
        raise LstmstateError(
            f"h_n of {list(h_n.shape)} and c_n of {list(c_n.shape)} are not of the same layers"
        )
    return [(c_n[_at(at, k)], h_n[_at(at, k)]) for k in _layers(layers)]


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("tuple", "c and m of each cell", _tuple_arrays, _tuple_pairs, ("c", "m"), True),
        Layout(
            "flat", "c | m side by side, cell after cell", _flat_arrays, _flat_pairs, ("state",)
        ),
        Layout(
            "stacked",
            "[..., 2, units] of each cell, c first",
            _stacked_arrays,
            _stacked_pairs,
            ("state",),
            True,
        ),
        Layout(
            "layered",
            "[L, 2, batch, units], c first",
            _layered_arrays,
            _layered_pairs,
            ("state",),
            inserted=(2, 1),
        ),
        Layout(
            "keras", "h and c of each cell, h first", _keras_arrays, _keras_pairs, ("h", "c"), True
        ),
        Layout(
            "torch",
            "h_n [L, batch, m] and c_n [L, batch, c]",
            _torch_arrays,
            _torch_pairs,
            ("h_n", "c_n"),
            inserted=(1, 1),
        ),
    )
}
