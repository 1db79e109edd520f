"""The default engine: every family with canonical weights, in NumPy.

Weights are laid out once, and no step allocates. All values of a step are in one buffer
`[5·H, batch]`, units before batch, so that each gate, and each run of gates, is one piece of
memory:

    i | f | o | j | c        i·j and f·c are one product, of [i, f] with [j, c]

Equations: TensorFlow 1.15.0, python/ops/rnn_cell_impl.py, LSTMCell.call; for coupled gates and
norms contrib/rnn/python/ops/rnn_cell.py. Rules for sequences of unequal lengths: python/ops/rnn.py,
`_rnn_step` (past its end a sequence has outputs of zero and keeps its state) and
`bidirectional_dynamic_rnn`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from copy import copy
from functools import cached_property, partial
from typing import Any

import numpy as np

from lstmstate.engines import blas_threads, compiled_cell
from lstmstate.engines.canonical_network import (
    GATES,
    Array,
    CanonicalCell,
    Lengths,
    Network,
    Norm,
    Pair,
    Runner,
    RunOutputs,
    reverse_sequences,
    spans,
    split_gates,
)
from lstmstate.engines.compiled_cell import CompiledCell
from lstmstate.engines.matrix_products import InputPart, cut, run_together, shares
from lstmstate.engines.numpy_functions import function
from lstmstate.errors import UnsupportedError

_TERMS = 100  # of a sum that overflows in one order of its terms, and not in another
_ORDER = "ifoj"
# The input's part of the gates is computed for so many bytes of steps at once, which stay in the
# processor's caches, but for so many columns at least, which make a matrix product worth it.
_CHUNK_BYTES = 1 << 20
_CHUNK_COLUMNS = 256
# A batch is run in parts whose c has so many numbers, some 20 times as many in all buffers.
_ROOM_NUMBERS = 1 << 20
# Buffers of up to this size are kept for the next run.
_KEPT_BYTES = 8 << 20
_LINE = 16  # rows of weights transposed at a time: they fill a line of the caches


def check(network: Network) -> None:
    """Refuse weights so large that the order of a sum decides whether it overflows.

    TensorFlow's order is its own, and depends on the processor.
    """
    for cell in network.cells:
        for weights in (cell.kernel, cell.recurrent):
            if math.isfinite(np.vdot(weights, weights)):  # one pass, nearly always enough
                continue
            sizes = np.abs(weights[np.isfinite(weights)])
            most = np.finfo(weights.dtype).max / _TERMS
            if sizes.size and sizes.max() > most:
                raise UnsupportedError(
                    f"a weight is larger than {most:.0e}, and sums with it overflow",
                    tensor=cell.name,
                    advice="use `engine='graph'` or `engine='tensorflow'`",
                )


def load(network: Network) -> Runner:
    """Return a network that is ready to run."""
    return NumpyRunner(network)


class NumpyRunner:
    """A network whose cells are run one after another, each over all of the steps."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @cached_property
    def _stages(self) -> list[list[list[NumpyCell | CompiledCell]]]:
        """The cells, which are laid out for the first run: an export needs none."""
        return [
            [[prepare(cell) for cell in chain] for chain in stage] for stage in self._network.stages
        ]

    def in_float64(self) -> NumpyRunner:
        """Return the same network, computing in float64."""
        other = copy(self)
        other._stages = [
            [[cell.in_float64() for cell in chain] for chain in s] for s in self._stages
        ]
        return other

    def run(
        self, x: Array, states: Sequence[Pair], lengths: Lengths | None = None, keep: str = ""
    ) -> RunOutputs:
        """Run over some steps; see `Runner`."""
        before = iter(states)
        after: list[Pair] = []
        kept: list[dict[str, Array]] = []
        for stage in self._stages:
            joined = []
            for backward, chain in enumerate(stage):
                y = reverse_sequences(x, lengths) if backward else x
                for cell in chain:
                    y, state, steps = run_padded(cell, y, *next(before), lengths, keep)
                    after.append(state)
                    kept.append(
                        {
                            k: reverse_sequences(v, lengths) if backward else v
                            for k, v in steps.items()
                        }
                    )
                joined.append(reverse_sequences(y, lengths) if backward else y)
            x = joined[0] if len(joined) == 1 else np.concatenate(joined, axis=-1)
        return RunOutputs(x, after, kept)


def prepare(cell: CanonicalCell) -> NumpyCell | CompiledCell:
    """Return a cell that is ready to run, with compiled steps where there are any."""
    return CompiledCell(cell) if compiled_cell.can_run(cell) else NumpyCell(cell)


def run_padded(
    cell: NumpyCell | CompiledCell, x: Array, c: Array, m: Array, lengths: Lengths | None, keep: str
) -> tuple[Array, Pair, dict[str, Array]]:
    """Run a cell over sequences of unequal lengths.

    The longest come first, and from length to length fewer go on, so that no padding is run.

    Returns:
        The outputs, (c, m) after the last valid step of each, and the kept values of each step.
    """
    x = x[..., : cell.cell.input_size]  # some cells ignore further columns
    steps, batch, _ = x.shape
    widths = cell.cell.widths
    wide = {"c": widths.c, "m": widths.m, **dict.fromkeys(GATES, widths.c)}
    make = np.empty if lengths is None else np.zeros
    outputs = make((steps, batch, widths.m), x.dtype)
    kept = {letter: make((steps, batch, wide[letter]), x.dtype) for letter in keep}
    if lengths is None:
        return outputs, cell.run(x, c, m, outputs, kept), kept
    c, m = c.copy(), m.copy()
    order = np.argsort(-lengths, kind="stable")
    start = 0
    for stop in np.unique(lengths[lengths > 0]):
        rows = order[: np.count_nonzero(lengths >= stop)]
        shape = (int(stop) - start, len(rows))
        made = np.empty((*shape, widths.m), x.dtype)
        kept_of = {letter: np.empty((*shape, wide[letter]), x.dtype) for letter in keep}
        c[rows], m[rows] = cell.run(x[start:stop, rows], c[rows], m[rows], made, kept_of)
        outputs[start:stop, rows] = made
        for letter, values in kept_of.items():
            kept[letter][start:stop, rows] = values
        start = int(stop)
    for letter, last in (("c", c), ("m", m)):  # past its end a sequence keeps its state
        if letter in kept:
            past = np.arange(steps)[:, None] >= lengths
            kept[letter][past] = np.broadcast_to(last, kept[letter].shape)[past]
    return outputs, (c, m), kept


class NumpyCell:
    """A cell that is ready to run.

    Sigmoids are computed as tanh(x / 2) / 2 + 1 / 2, so that one call of tanh serves all gates;
    the first half is in the weights. float16 is rounded at the places of TensorFlow: after the
    product, the bias, the forget bias and every function; products are summed in float32.
    """

    def __init__(self, cell: CanonicalCell) -> None:
        self.cell = cell
        self.dtype = cell.dtype
        self._order = [gate for gate in _ORDER if gate in cell.gates]
        self._is_half = cell.dtype == np.float16
        # With peepholes the activation of o comes after the others, since it sees the new c.
        self._by_tanh = (
            (cell.candidate, cell.recurrent_activation) == ("tanh", "sigmoid")
            and not cell.peepholes
            and not self._is_half
        )
        wide = np.dtype(np.float32) if self._is_half else cell.dtype
        self._bias = self._lay_out(cell.bias, cell.dtype)[:, None] if self._is_half else None
        has_ones = not self._is_half and not cell.norms  # the input has a row of ones below it
        self.kernel = self._lay_out(cell.kernel, wide, more=int(has_ones))
        self.recurrent = self._lay_out(cell.recurrent, wide)
        if has_ones:
            self.kernel[:, -1] = self._bias_below(wide)
        # A norm undoes factors before it, but for its epsilon: there the half is in gamma and beta.
        if self._by_tanh and not cell.norms:
            scale = self._per_gate(0.5, 0.5, 1.0, wide)
            for weights in (self.kernel.T, self.recurrent.T):
                np.multiply(weights, scale, weights)
        self._lay_others()

    def _lay_others(self) -> None:
        """Lay out all but the kernels, in the type that the cell computes in."""
        cell, dtype = self.cell, self.dtype
        wide = np.dtype(np.float32) if self._is_half else dtype
        norms = {
            gate: Norm(*(one.astype(dtype, copy=False) for one in norm))
            for gate, norm in cell.norms.items()
        }
        self._norms = {gate: self._lay_out_norm(gate, norm) for gate, norm in norms.items()}
        self._peepholes = {
            gate: weights.astype(dtype, copy=False)[:, None]
            for gate, weights in cell.peepholes.items()
        }
        self._projection = (
            None if cell.projection is None else np.ascontiguousarray(cell.projection.T, wide)
        )
        self._rooms: list[_Buffers] = []  # that no run uses at the moment

    def in_float64(self) -> NumpyCell:
        """Return the same cell, computing in float64: factors of two change no digit of a weight.

        A new layout of float64 weights takes three times as long.
        """
        if self._is_half:  # whose rounding has another layout
            return NumpyCell(self.cell.in_float64())
        exact = copy(self)
        exact.dtype = np.dtype(np.float64)
        exact.kernel, exact.recurrent = (
            weights.astype(np.float64) for weights in (self.kernel, self.recurrent)
        )
        if not self.cell.norms:  # the sum of two biases was rounded
            scale = self._per_gate(0.5, 0.5, 1.0, exact.dtype) if self._by_tanh else 1
            exact.kernel[:, -1] = self._bias_below(exact.dtype) * scale
        exact._lay_others()
        return exact

    def _bias_below(self, dtype: np.dtype[np.generic]) -> Array:
        """Return the bias with the forget bias in it, which the row of ones is multiplied with."""
        bias = self._lay_out(self.cell.bias, dtype)
        added: Array = self._per_gate(0.0, self.cell.forget_bias, 0.0, dtype)
        return bias + added

    @property
    def units(self) -> int:
        """H."""
        return self.cell.widths.c

    def _lay_out(self, columns: Array, dtype: np.dtype[np.generic], more: int = 0) -> Array:
        """Return weights `[..., G·H]` as `[G·H, ...]`, gates in the order of the buffer.

        Args:
            more: columns of the result that are left to be filled.
        """
        rows = columns.reshape(-1, columns.shape[-1])
        gates = split_gates(rows, self.cell.gates)
        laid = np.empty((rows.shape[1], len(rows) + more), dtype)
        for place, gate in zip(np.split(laid, len(self._order)), self._order, strict=True):
            for start in range(0, len(rows), _LINE):
                stop = min(start + _LINE, len(rows))
                place[:, start:stop] = gates[gate][start:stop].T
        return laid if columns.ndim > 1 else laid[:, 0]

    def _per_gate(self, io: float, f: float, j: float, dtype: np.dtype[np.generic]) -> Array:
        """Return a number for each row of the gates, `[G·H]`."""
        values = {"i": io, "f": f, "o": io, "j": j}
        return np.repeat(np.array([values[gate] for gate in self._order], dtype), self.units)

    def _lay_out_norm(self, gate: str, norm: Norm) -> Norm:
        """Return a norm that includes the forget bias, and the half."""
        gamma, beta = norm
        added = beta.dtype.type(self.cell.forget_bias if gate == "f" and not self._is_half else 0)
        half = beta.dtype.type(0.5 if self._by_tanh and gate in "ifo" else 1)
        return Norm((gamma * half)[:, None], ((beta + added) * half)[:, None])

    def run(self, x: Array, c: Array, m: Array, outputs: Array, kept: Mapping[str, Array]) -> Pair:
        """Run over some steps; return the new c and m.

        Args:
            x: `[steps, batch, input_size]`.
            c, m: `[batch, H]` and `[batch, R]`.
            outputs: takes m of every step, `[steps, batch, R]`.
            kept: take other values of every step, by their letters.
        """

        def run(rows: slice, alone: bool) -> Pair:
            of_rows = {letter: values[:, rows] for letter, values in kept.items()}
            return self._run(x[:, rows], c[rows], m[rows], outputs[:, rows], of_rows, alone)

        # Rows of a batch have nothing to do with one another.
        most = max(_ROOM_NUMBERS // self.units, 1)
        states: list[Pair] = []
        for rows in shares(x.shape[1], self.recurrent.size, most):
            states += run_together([partial(run, part, len(rows) == 1) for part in rows])
        if len(states) == 1:
            return states[0]
        return np.concatenate([c for c, _ in states]), np.concatenate([m for _, m in states])

    def _run(
        self, x: Array, c: Array, m: Array, outputs: Array, kept: Mapping[str, Array], alone: bool
    ) -> Pair:
        """Run over some steps of some rows; alone: no other thread runs others."""
        steps, batch, _ = x.shape
        parts = list(spans(steps, self._steps_at_once(batch)))
        room = self._free_buffers(batch, parts[0][1])
        room.c[...] = c.T
        room.m[...] = m.T
        # A sigmoid whose exponential overflows is 0 or 1.
        with np.errstate(all="ignore"), blas_threads.one_thread():
            of_parts = room.input_part.of([x[a:b] for a, b in parts], alone=alone)
            with closing(of_parts) as by_part:
                for (start, stop), projected in zip(parts, by_part, strict=True):
                    made = room.outputs[: stop - start]
                    self._step(projected, made, room, {k: v[start:stop] for k, v in kept.items()})
                    outputs[start:stop] = made.transpose(0, 2, 1)
        state = room.c.T.copy(), room.m.T.copy()
        if room.outputs.nbytes <= _KEPT_BYTES:
            self._rooms.append(room)
        return state

    def _free_buffers(self, batch: int, steps: int) -> _Buffers:
        """Return buffers that no other thread uses: the last ones, if they fit."""
        try:
            room = self._rooms.pop()
        except IndexError:
            return _Buffers(self, batch, steps)
        return room if room.batch == batch and room.steps >= steps else _Buffers(self, batch, steps)

    def _steps_at_once(self, batch: int) -> int:
        row = len(self.kernel) * self.kernel.dtype.itemsize * batch
        return max(_CHUNK_BYTES // row, _CHUNK_COLUMNS // batch, 1)

    def _step(
        self, projected: Array, outputs: Array, room: _Buffers, kept: Mapping[str, Array]
    ) -> None:
        """Step over the projected inputs; `outputs` `[steps, R, batch]` gets every m."""
        add, multiply, tanh = np.add, np.multiply, np.tanh
        dot, recurrent, product = room.recurrent_product
        # Lookups of attributes, once and not in every step.
        cell = self.cell
        is_half, by_tanh = self._is_half, self._by_tanh and not cell.norms
        is_tanh = cell.activation == "tanh" and not is_half
        activation = tanh if is_tanh else function(cell.activation, is_half)
        is_plain = self.recurrent.ndim == 2 and not is_half
        is_coupled, has_norm, clip = room.is_coupled, "c" in cell.norms, cell.cell_clip
        o_peephole, projection = self._peepholes.get("o"), self._projection
        z, sigmoids, half, o, c, m = room.z, room.sigmoids, room.half, room.o, room.c, room.m
        i_f, j_c, terms, i_j, f_c = room.i_f, room.j_c, room.terms, room.i_j, room.f_c
        activated, steps_kept = room.activated, tuple(kept.items())
        for number, (x, m_new) in enumerate(zip(projected, outputs, strict=True)):
            if is_plain:
                dot(recurrent, m, product)
                add(z, x, z)
            else:
                self._sum_gates(x, m, room)
            if by_tanh:
                tanh(z, z)
                multiply(sigmoids, half, sigmoids)
                add(sigmoids, half, sigmoids)
            else:
                self._activate_gates(room)
            if is_coupled:
                np.subtract(1, room.f, room.i)
            multiply(i_f, j_c, terms)
            add(i_j, f_c, c)  # c' = i * j + f * c
            if has_norm:
                self._normalise(c, "c")
            if clip is not None:
                np.clip(c, -clip, clip, c)
            if o_peephole is not None:
                add(o, o_peephole * c, o)
                function(cell.recurrent_activation, is_half)(o, o)
            activation(c, activated)
            if projection is None:
                multiply(o, activated, m_new)  # m' = o * activation(c')
            else:
                multiply(o, activated, room.unprojected)
                self._project(room, m_new)
            m = m_new
            for letter, rows in steps_kept:
                rows[number] = (m if letter == "m" else room.parts[letter]).T
        room.m[...] = m

    def _sum_gates(self, x: Array, m: Array, room: _Buffers) -> None:
        """Put x + recurrent @ m into the gates, for cells that are not plain."""
        summed = room.wide_z
        if self.recurrent.ndim == 1:
            by_gate = summed.reshape(-1, self.units, room.batch)
            np.multiply(self.recurrent.reshape(-1, self.units, 1), m, by_gate)
        else:
            np.dot(self.recurrent, m.astype(summed.dtype, copy=False), summed)
        np.add(summed, x, summed)
        if self._bias is not None:  # float16
            room.z[...] = summed
            if not self.cell.norms:
                np.add(room.z, self._bias, room.z)
                self._add_forget_bias(room)

    def _add_forget_bias(self, room: _Buffers) -> None:
        np.add(room.f, room.f.dtype.type(self.cell.forget_bias), room.f)

    def _activate_gates(self, room: _Buffers) -> None:
        """Norm the gates, add peepholes, and apply activations, but to an o that waits for c."""
        cell = self.cell
        for gate in self._order:
            if gate in cell.norms:
                self._normalise(room.parts[gate], gate)
        if cell.norms and self._is_half:
            self._add_forget_bias(room)
        for gate in "if":
            if gate in self._peepholes:
                part = room.parts[gate]
                np.add(part, self._peepholes[gate] * room.c, part)
        activate = function(cell.recurrent_activation, self._is_half)
        if self._by_tanh:
            np.tanh(room.z, room.z)
            np.multiply(room.sigmoids, room.half, room.sigmoids)
            np.add(room.sigmoids, room.half, room.sigmoids)
            return
        early = room.early_sigmoids if "o" in self._peepholes else room.sigmoids
        activate(early, early)
        function(cell.candidate, self._is_half)(room.j, room.j)

    def _normalise(self, values: Array, gate: str) -> None:
        """Layer norm over the units, with the variance of all of them."""
        if self._is_half:
            self._normalise_half(values, gate)
            return
        gamma, beta = self._norms[gate]
        mean = values.mean(axis=0)
        np.subtract(values, mean, values)
        variance = np.square(values).mean(axis=0)
        epsilon = values.dtype.type(self.cell.norm_epsilon)
        np.multiply(values, gamma / np.sqrt(variance + epsilon), values)
        np.add(values, beta, values)

    def _normalise_half(self, values: Array, gate: str) -> None:
        """nn.moments sums in float32, and nn.batch_normalization computes in float16."""
        gamma, beta = self._norms[gate]
        wide = values.astype(np.float32)
        mean = wide.mean(axis=0)
        variance = np.square(wide - mean).mean(axis=0).astype(np.float16)
        spread = (variance + np.float16(self.cell.norm_epsilon)).astype(np.float32)
        scale = gamma * (1 / np.sqrt(spread)).astype(np.float16)
        np.add(values * scale, beta - mean.astype(np.float16) * scale, values)

    def _project(self, room: _Buffers, m_new: Array) -> None:
        assert self._projection is not None
        unprojected = room.unprojected
        if self._is_half:
            m_new[...] = np.dot(self._projection, unprojected.astype(np.float32))
        else:
            np.dot(self._projection, unprojected, m_new)
        if self.cell.proj_clip is not None:
            np.clip(m_new, -self.cell.proj_clip, self.cell.proj_clip, m_new)


class _Buffers:
    """The buffers of some steps of a batch, and the parts of them by name."""

    def __init__(self, laid: NumpyCell, batch: int, steps: int) -> None:
        cell, units = laid.cell, laid.units
        dtype = laid.dtype
        wide = np.dtype(np.float32) if dtype == np.float16 else dtype
        self.batch, self.steps = batch, steps
        self.is_coupled = "i" not in cell.gates
        buffer = np.empty((5 * units, batch), dtype)
        self.i, self.f, self.o, self.j, self.c = buffer.reshape(5, units, batch)
        self.parts = dict(zip("ifojc", buffer.reshape(5, units, batch), strict=True))
        first = units if self.is_coupled else 0  # i is 1 - f there, and no part of the product
        self.z = buffer[first : 4 * units]
        self.wide_z = self.z if wide == dtype else np.empty(self.z.shape, wide)
        self.sigmoids = buffer[first : 3 * units]
        self.early_sigmoids = buffer[first : 2 * units]
        self.i_f, self.j_c = buffer[: 2 * units], buffer[3 * units :]
        self.terms = np.empty((2 * units, batch), dtype)
        self.i_j, self.f_c = self.terms.reshape(2, units, batch)
        self.half = np.array(0.5, dtype)
        self.activated = np.empty((units, batch), dtype)
        self.unprojected = np.empty((units, batch), dtype)
        self.m = np.empty((cell.widths.m, batch), dtype)
        self.outputs = np.empty((steps, cell.widths.m, batch), dtype)
        self.input_part = InputPart(laid.kernel, cell.input_size, batch, steps)
        pieces = cut(laid.recurrent, batch) if laid.recurrent.ndim == 2 else None
        # The function, the weights, and the gates as it fills them.
        self.recurrent_product: tuple[Any, Array, Array] = (np.dot, laid.recurrent, self.z)
        if pieces is not None and len(pieces) > 1:
            by_piece = self.z.reshape(len(pieces), -1, batch)
            self.recurrent_product = (np.matmul, pieces, by_piece)
