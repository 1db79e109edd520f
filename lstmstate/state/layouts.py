"""The layouts of a state: one table, each row two functions that undo one another.

With c_k and m_k the halves of cell k, h another name of m, B the batch, D the directions of a
layer, and any more axes before the batch:

    tuple        c_0 [B, c], m_0 [B, m], c_1, m_1, …    LSTMStateTuple, state_is_tuple=True
    flat         [B, c_0 | m_0 | c_1 | m_1 …]           state_is_tuple=False
    stacked      [B, 2, units] for each cell            tf.stack([c, m], axis=1)
    layered      [L, 2, B, units], [2, B, units]        numpy.save of LSTMStateTuples
    keras        h_0 [B, m], c_0 [B, c], …: h first     return_state of Keras
    torch        h_n [L, B, m], c_n [L, B, c]           torch.nn.LSTM
    onnx         initial_h, initial_c [D, B, units]     the operator LSTM, for each layer
    hc           [2, B, units]: h first                 silero-vad
    tensorforce  [B, 2, units]: h first                 internals of Tensorforce
    tfjs         … h_1, c_1, h_0, c_0                   rnn of TensorFlow.js
    dynet        c_0, c_1, …, h_0, h_1, …               LSTM builders of DyNet
    thinc        [2, layers, D, units]: c first         HC0 of thinc

Source of the flat order: TensorFlow 0.5 to 1.15, BasicLSTMCell.call (`array_ops.split(state, 2,
1)`), LSTMCell.call (c in [0, num_units), m after it) and MultiRNNCell.call (cell after cell). The
others were run: Keras 3.15, torch 2.13, ONNX 1.23, silero-vad 6.2, Tensorforce 0.5, TensorFlow.js
4.22, dyNET38 2.2, thinc 9.1, flax 0.12, dm-haiku 0.0.17, Sonnet 1.36 and 2.0, equinox 0.13, mlx
0.32, stable-baselines 2.10.
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
        program: the programs that use it.
        make_arrays: the arrays of a state, by name; they are views if NumPy can make them.
        make_pairs: (c, m) of each cell in such arrays, always views; only "flat" uses
            the widths, which its array does not show.
        names: the names of the arrays of one cell, or those of the whole state.
        h_first: whether m comes before c.
        naming: the names of the arrays of a stack, from those of its cells and of one cell; None
            if the whole state has arrays together.
        inserted: how many axes of a stack, and of one cell, come before the batch.
        projects: whether the program has LSTMs with a projection.
    """

    name: str
    words: str
    program: str
    make_arrays: Callable[[Layout, Sequence[LSTMState], bool], list[Array]]
    make_pairs: Callable[[Layout, Sequence[Array], Widths, bool], Pairs]
    names: tuple[str, ...]
    h_first: bool = False
    naming: Callable[[Sequence[str], Sequence[str]], list[str]] | None = None
    inserted: tuple[int, int] = (0, 0)
    projects: bool = True

    def arrays(self, cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
        """Return the arrays of a state."""
        return self.make_arrays(self, cells, is_stack)

    def pairs(self, arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
        """Return (c, m) of each cell in the arrays, as views."""
        return self.make_pairs(self, arrays, widths, is_stack)

    @property
    def in_halves(self) -> bool:
        """Whether c and m are in arrays of their own."""
        return len(self.names) == 2

    @property
    def in_layers(self) -> bool:
        """Whether the arrays have an axis of layers or directions before the batch."""
        return self.inserted == (1, 1)

    @property
    def pairs_directions(self) -> bool:
        """Whether both directions of a layer are next to each other, as the next one reads them."""
        return self.name in ("torch", "onnx", "thinc")

    @property
    def reversed(self) -> Layout | None:
        """The layout that differs only in the order of c and m, if there is one."""
        same = (one for one in LAYOUTS.values() if one.make_arrays is self.make_arrays)
        return next((one for one in same if one.h_first != self.h_first), None)

    @property
    def is_flat(self) -> bool:
        """Whether c and m are side by side."""
        return self.make_arrays is _flat_arrays

    def array_names(self, cells: Sequence[CellShape], *, is_stack: bool) -> list[str]:
        """Return the names of the arrays in a file that holds several."""
        if self.naming is None or not is_stack:
            return list(self.names)
        return self.naming([cell.name for cell in cells], self.names)

    def axis_of(self, lead_axis: int, structure: Structure) -> int:
        """Return the axis of these arrays that is a leading axis of c and m."""
        before = self.inserted[0] if structure.is_stack else self.inserted[1]
        return lead_axis + (before if lead_axis == len(structure.lead) - 1 else 0)


def by_cell(cells: Sequence[str], halves: Sequence[str]) -> list[str]:
    """Return the names of the arrays of a stack, cell after cell."""
    return [f"{scope}/{half}" for scope in scopes_of(cells) for half in halves]


def _by_cell_last_first(cells: Sequence[str], halves: Sequence[str]) -> list[str]:
    return [f"{scope}/{half}" for scope in scopes_of(cells)[::-1] for half in halves]


def _by_half(cells: Sequence[str], halves: Sequence[str]) -> list[str]:
    return [f"{scope}/{half}" for half in halves for scope in scopes_of(cells)]


def _by_layer(cells: Sequence[str], halves: Sequence[str]) -> list[str]:
    layers = len(cells) // directions_of(cells)
    if layers == 1:
        return list(halves)
    return [f"layer_{number}/{half}" for number in range(layers) for half in halves]


def directions_of(cells: Sequence[str]) -> int:
    """Return 2 if cells are layers of a forward and a backward one, by their names, else 1.

    >>> directions_of(["fw/lstm_cell", "bw/lstm_cell"]), directions_of(["a", "b"])
    (2, 1)
    """
    sides = [direction(name) for name in cells]
    found = [side[1] for side in sides if side is not None]
    are_paired = len(found) == len(cells) and found == ["forward", "backward"] * (len(cells) // 2)
    return 2 if are_paired else 1


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


def _equal(cells: Sequence[LSTMState], layout: Layout, *, halves: bool) -> None:
    """Refuse what cannot be laid side by side in one array."""
    widths = [cell.widths for cell in cells]
    if len(set(widths)) > 1 or (halves and any(c != m for c, m in widths)):
        alike = "c and m" if halves else "cells"
        raise LstmstateError(
            f"the layout {layout.name!r} needs {alike} as wide as each other, and this state has "
            + ", ".join(f"c {c} m {m}" for c, m in widths),
            advice="convert it to tuple or flat",
        )


def _one(arrays: Sequence[Array], layout: Layout) -> Array:
    if len(arrays) != 1:
        raise LstmstateError(f"the layout {layout.name!r} is one array, and here are {len(arrays)}")
    return arrays[0]


def _ordered(layout: Layout, c: Array, m: Array) -> tuple[Array, Array]:
    """Return c and m in the order of a layout; or the two of a layout as c and m."""
    return (m, c) if layout.h_first else (c, m)


def _cell_arrays(layout: Layout, cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    return [half for cell in cells for half in _ordered(layout, *cell)]


def _cell_pairs(layout: Layout, arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
    if len(arrays) % 2:
        raise LstmstateError(
            f"the layout {layout.name!r} has two arrays a cell, and here are {len(arrays)}"
        )
    return [_ordered(layout, *pair) for pair in zip(arrays[::2], arrays[1::2], strict=True)]


def _last_first_arrays(layout: Layout, cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    return _cell_arrays(layout, cells[::-1], is_stack)


def _last_first_pairs(
    layout: Layout, arrays: Sequence[Array], widths: Widths, is_stack: bool
) -> Pairs:
    return _cell_pairs(layout, arrays, widths, is_stack)[::-1]


def _half_arrays(layout: Layout, cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    return [*(cell.c for cell in cells), *(cell.m for cell in cells)]


def _half_pairs(layout: Layout, arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
    half = len(arrays) // 2
    paired = [array for pair in zip(arrays[:half], arrays[half:], strict=False) for array in pair]
    return _cell_pairs(layout, [*paired, *arrays[2 * half :]], widths, is_stack)


def _flat_arrays(layout: Layout, cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    return [StackState(cells).flat()]


def _flat_pairs(layout: Layout, arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
    array = _one(arrays, layout)
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


def _stacked_arrays(layout: Layout, cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    import numpy as np

    for cell in cells:
        _equal([cell], layout, halves=True)
    return [np.stack(_ordered(layout, *cell), axis=-2) for cell in cells]


def _stacked_pairs(
    layout: Layout, arrays: Sequence[Array], widths: Widths, is_stack: bool
) -> Pairs:
    for array in arrays:
        if array.ndim < 2 or array.shape[-2] != 2:
            raise LstmstateError(
                f"{layout.name} means [..., 2, units], and the shape is {list(array.shape)}"
            )
    return [_ordered(layout, array[..., 0, :], array[..., 1, :]) for array in arrays]


def _layered_arrays(layout: Layout, cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    import numpy as np

    _equal(cells, layout, halves=True)
    at = _batch_axis(cells[0].c)
    layers = [np.stack(_ordered(layout, *cell), axis=at) for cell in cells]
    return [np.stack(layers, axis=at) if is_stack else layers[0]]


def _layered_pairs(
    layout: Layout, arrays: Sequence[Array], widths: Widths, is_stack: bool
) -> Pairs:
    array = _one(arrays, layout)
    inserted = 2 if is_stack else 1
    at = _batch_axis(array, inserted)
    pair = at + inserted - 1
    if array.ndim < inserted + 1 or array.shape[pair] != 2:
        raise LstmstateError(
            f"{layout.name} means {'[L, 2, batch, units]' if is_stack else '[2, batch, units]'}, "
            f"and the shape is {list(array.shape)}"
        )
    layers = [(k,) for k in _layers(array.shape[at])] if is_stack else [()]
    return [
        _ordered(layout, array[_at(at, *layer, 0)], array[_at(at, *layer, 1)]) for layer in layers
    ]


def _torch_arrays(layout: Layout, cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    refuse_separate_directions([cell.cell for cell in cells], layout)
    for cell in cells:
        if cell.widths.m > cell.widths.c:
            raise UnsupportedError(
                f"the layout {layout.name!r} needs m no wider than c, as torch.nn.LSTM projects to "
                f"fewer units than it has, and this state has c {cell.widths.c} m {cell.widths.m}",
                tensor=cell.cell or None,
                advice="convert it to tuple or flat",
            )
    return _layer_arrays(layout, cells)


def _layer_arrays(layout: Layout, cells: Sequence[LSTMState]) -> list[Array]:
    """Return m and c of some cells, each in one array with an axis of layers."""
    import numpy as np

    _equal(cells, layout, halves=False)
    at = _batch_axis(cells[0].c)
    return [np.stack([cell.m for cell in cells], at), np.stack([cell.c for cell in cells], at)]


def refuse_separate_directions(names: Sequence[str], layout: Layout) -> None:
    """Refuse the layers of two stacks, one of each direction.

    Each layer of a bidirectional torch.nn.LSTM reads both directions of the one before, and its
    states are layer 0 forward, layer 0 backward, layer 1 forward, …: the order of a
    stack_bidirectional_dynamic_rnn.
    """
    sides = {side[1] for name in names if (side := direction(name)) is not None}
    if len(sides) > 1 and directions_of(names) == 1:
        raise UnsupportedError(
            f"the layout {layout.name!r} is that of layers which read both directions of the one "
            "before, and these are a stack of each direction",
            advice="convert each direction by itself, or into another layout",
        )


def _torch_pairs(layout: Layout, arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
    if len(arrays) != 2 or any(array.ndim < 2 for array in arrays):
        raise LstmstateError(f"{layout.name} means {layout.words}")
    h_n, c_n = arrays
    at = _batch_axis(h_n, 1)
    layers = h_n.shape[at]
    if h_n.ndim != c_n.ndim or c_n.shape[at] != layers or (not is_stack and layers != 1):
        raise LstmstateError(
            f"{' and '.join(layout.names)} of {list(h_n.shape)} and {list(c_n.shape)} are not of "
            "the same layers"
        )
    return [(c_n[_at(at, k)], h_n[_at(at, k)]) for k in _layers(layers)]


def _onnx_arrays(layout: Layout, cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    step = directions_of([cell.cell for cell in cells])
    layers = (cells[at : at + step] for at in range(0, len(cells), step))
    return [array for layer in layers for array in _layer_arrays(layout, layer)]


def _onnx_pairs(layout: Layout, arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
    if len(arrays) % 2:
        raise LstmstateError(f"{layout.name} means {layout.words}")
    layers = zip(arrays[::2], arrays[1::2], strict=True)
    return [pair for layer in layers for pair in _torch_pairs(layout, layer, widths, is_stack)]


def _thinc_arrays(layout: Layout, cells: Sequence[LSTMState], is_stack: bool) -> list[Array]:
    import numpy as np

    _equal(cells, layout, halves=True)
    refuse_separate_directions([cell.cell for cell in cells], layout)
    if cells[0].batch_shape:
        raise UnsupportedError(
            f"the layout {layout.name!r} needs c and m of one axis, as thinc has one initial state "
            f"for every sequence, and these have the axes {list(cells[0].batch_shape)} before it",
            advice="convert it to tuple or flat",
        )
    step = directions_of([cell.cell for cell in cells])
    whole = np.stack([np.stack([cell.c for cell in cells]), np.stack([cell.m for cell in cells])])
    return [whole.reshape(2, len(cells) // step, step, cells[0].widths.c)]


def _thinc_pairs(layout: Layout, arrays: Sequence[Array], widths: Widths, is_stack: bool) -> Pairs:
    array = _one(arrays, layout)
    if array.ndim != 4 or array.shape[0] != 2:
        raise LstmstateError(f"{layout.name} means {layout.words}, got {list(array.shape)}")
    _layers(array.shape[1] * array.shape[2])
    places = ((k, d) for k in range(array.shape[1]) for d in range(array.shape[2]))
    return [(array[0, k, d], array[1, k, d]) for k, d in places]


def _in_cells(name: str, words: str, program: str, *names: str, projects: bool = False) -> Layout:
    """Return a layout of two arrays a cell; the first name shows which half is first."""
    h_first = names[0] != "c"
    own = _cell_arrays, _cell_pairs
    return Layout(name, words, program, *own, names, h_first, by_cell, projects=projects)


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        _in_cells(
            *("tuple", "c and m of each cell", "LSTMStateTuple, state_is_tuple=True", "c", "m"),
            projects=True,
        ),
        Layout(
            *("flat", "c | m side by side, cell after cell", "state_is_tuple=False"),
            _flat_arrays,
            _flat_pairs,
            ("state",),
        ),
        Layout(
            *("stacked", "[..., 2, units] of each cell, c first", "tf.stack([c, m], axis=1)"),
            _stacked_arrays,
            _stacked_pairs,
            ("state",),
            naming=by_cell,
        ),
        Layout(
            *("layered", "[L, 2, batch, units], c first", "numpy.save of LSTMStateTuples"),
            _layered_arrays,
            _layered_pairs,
            ("state",),
            inserted=(2, 1),
        ),
        _in_cells("keras", "h and c of each cell, h first", "return_state of Keras", "h", "c"),
        Layout(
            *("torch", "h_n [L, batch, m] and c_n [L, batch, c]", "torch.nn.LSTM"),
            _torch_arrays,
            _torch_pairs,
            ("h_n", "c_n"),
            True,
            inserted=(1, 1),
        ),
        Layout(
            *("onnx", "initial_h and initial_c [D, batch, units] of each layer", "ONNX's LSTM"),
            _onnx_arrays,
            _onnx_pairs,
            ("initial_h", "initial_c"),
            True,
            _by_layer,
            inserted=(1, 1),
            projects=False,
        ),
        _in_cells("flax", "c and h of each cell, c first", "LSTMCells of Flax", "c", "h"),
        _in_cells(
            *("haiku", "hidden and cell of each cell, h first", "LSTMState of Haiku"),
            *("hidden", "cell"),
        ),
        _in_cells(
            *("sonnet", "hidden and cell of each cell, h first", "LSTMState of Sonnet 1 and 2"),
            *("hidden", "cell"),
            projects=True,
        ),
        _in_cells("equinox", "h and c of each cell, h first", "LSTMCell of Equinox", "h", "c"),
        _in_cells(
            *("mlx", "hidden and cell of each cell, h first", "LSTM of MLX", "hidden", "cell"),
        ),
        Layout(
            *("hc", "[2, batch, units], h first; a stack [L, 2, batch, units]", "silero-vad"),
            _layered_arrays,
            _layered_pairs,
            ("state",),
            True,
            inserted=(2, 1),
            projects=False,
        ),
        Layout(
            *("tensorforce", "[..., 2, units] of each cell, h first", "internals of Tensorforce"),
            _stacked_arrays,
            _stacked_pairs,
            ("state",),
            True,
            by_cell,
            projects=False,
        ),
        Layout(
            *("tfjs", "h and c of each cell, the last cell first", "rnn of TensorFlow.js"),
            _last_first_arrays,
            _last_first_pairs,
            ("h", "c"),
            True,
            _by_cell_last_first,
            projects=False,
        ),
        Layout(
            *("dynet", "c of every cell, then h of every cell", "LSTM builders of DyNet"),
            _half_arrays,
            _half_pairs,
            ("c", "h"),
            naming=_by_half,
            projects=False,
        ),
        Layout(
            *("thinc", "[2, layers, directions, units], c first", "HC0 of thinc"),
            _thinc_arrays,
            _thinc_pairs,
            ("HC0",),
            projects=False,
        ),
        Layout(
            *("baselines", "[batch, c | h], as flat", "LSTM policies of (stable-)baselines"),
            _flat_arrays,
            _flat_pairs,
            ("state",),
            projects=False,
        ),
    )
}
