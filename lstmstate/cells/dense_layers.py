"""Distinction of LSTM cells from dense layers without a graph, by the widths of other layers.

A kernel `[I + H, 4H]` with a bias `[4H]` may as well be a dense layer of 4H units. The words of its
scope come first; then the layers that may give its input and take its output, by their widths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lstmstate.cells import variable_names as names
from lstmstate.cells.from_graph.match_variables import VariableFacts

_CELL_LEAF = "W_0"  # no layer but a cell of 0.5 to 0.12 has W_0 with B


class Surroundings:
    """The matrices of a checkpoint, by the widths of their inputs and outputs."""

    def __init__(self, variables: Iterable[VariableFacts]) -> None:
        matrices = [variable.shape for variable in variables if len(variable.shape) == 2]
        self._takes = Counter(rows for rows, _ in matrices)
        self._gives = Counter(columns for _, columns in matrices)
        # The width of the input of each if it were a cell itself.
        self._takes_as_cell = Counter(
            rows - columns // 4 for rows, columns in matrices if columns % 4 == 0
        )

    def verdict(
        self, scope: str, roles: Mapping[str, Sequence[VariableFacts]], input_size: int, units: int
    ) -> bool | None:
        """Return True for a cell, False for a dense layer, None if both are possible."""
        if set(roles) - {"kernel", "bias"}:
            return True  # no other layer has peepholes, or a projection below it
        if _CELL_LEAF in {names.last(variable.path) for variable in roles["kernel"]}:
            return True
        if names.is_lstm_word(names.last(scope)):
            return True
        own = roles["kernel"][0].shape
        follows_cell = self._takes[units] > (own[0] == units) or self._takes_as_cell[units] > (
            own[0] - own[1] // 4 == units
        )
        follows_dense = self._takes[4 * units] > (own[0] == 4 * units)
        gives_cell = self._gives[input_size] > 0 or self._gives[4 * input_size] > (
            input_size == units
        )
        gives_dense = self._gives[own[0]] > (own[1] == own[0])
        as_cell, as_dense = follows_cell and gives_cell, follows_dense or gives_dense
        if names.is_recurrent_place(scope):
            return not (follows_dense and not follows_cell)
        if as_cell != as_dense:
            return as_cell
        return None
