"""A cell whose steps are NumPy: those of `reference_step`, with buffers that are used again.

It takes every family with canonical weights. Gates are apart, `[gates, batch, H]`, so that each is
one piece of memory; weights are used where they are.

Equations: TensorFlow 1.15.0, python/ops/rnn_cell_impl.py, LSTMCell.call; for coupled gates and
norms contrib/rnn/python/ops/rnn_cell.py. float16 is rounded where TensorFlow rounds: after the
product, the bias, the forget bias and every function; products are summed in float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmstate.engines import blas_threads
from lstmstate.engines.canonical_network import (
    Array,
    CanonicalCell,
    Norm,
    Pair,
    spans,
    steps_at_once,
)
from lstmstate.engines.numpy_functions import function

_CACHED_BYTES = 1 << 20
_MOST_NUMBERS = 1 << 20  # in c of the rows that are run at once; all buffers have ten times as many


class NumpyCell:
    """A cell that is ready to run."""

    def __init__(self, cell: CanonicalCell) -> None:
        self.cell = cell
        self._is_half = cell.dtype == np.float16
        self._wide = np.dtype(np.float32) if self._is_half else cell.dtype
        self._kernel, self._recurrent = (
            self._by_gate(weights.astype(self._wide, copy=False))
            for weights in (cell.kernel, cell.recurrent)
        )
        self._bias = self._by_gate(cell.bias)
        self._projection = (
            None if cell.projection is None else cell.projection.astype(self._wide, copy=False)
        )
        self._activation, self._candidate, self._recurrent_activation = (
            function(name, self._is_half)
            for name in (cell.activation, cell.candidate, cell.recurrent_activation)
        )

    def in_float64(self) -> NumpyCell:
        """Return the same cell, computing in float64."""
        return NumpyCell(self.cell.in_float64())

    @property
    def most_rows(self) -> int:
        """How many sequences of a batch are run at once."""
        return max(_MOST_NUMBERS // self.cell.widths.c, 1)

    def _by_gate(self, columns: Array) -> Array:
        """Return weights `[..., G·H]` as `[G, rows, H]`, without a copy."""
        shape = (-1, len(self.cell.gates), self.cell.widths.c)
        found: Array = columns.reshape(shape).transpose(1, 0, 2)
        return found

    def run(self, x: Array, c: Array, m: Array, outputs: Array, kept: Mapping[str, Array]) -> Pair:
        """Run over some steps; return the new c and m.

        Args:
            x: `[steps, batch, input_size]`.
            c, m: `[batch, H]` and `[batch, R]`.
            outputs: takes m of every step, `[steps, batch, R]`.
            kept: take other values of every step, by their letters.
        """
        steps, batch, width = x.shape
        row = len(self._kernel) * self.cell.widths.c * self._wide.itemsize * batch
        at_once = min(steps_at_once(row, batch, _CACHED_BYTES), steps)
        buffers = _Buffers(self.cell, self._wide, batch, at_once)
        buffers.c[...] = c
        # A sigmoid whose exponential overflows is 0 or 1.
        with np.errstate(all="ignore"), blas_threads.one_thread():
            for start, stop in spans(steps, at_once):
                rows = x[start:stop].reshape(-1, width).astype(self._wide, copy=False)
                product = buffers.inputs[:, : len(rows)]
                np.matmul(rows, self._kernel, product)
                if not self._is_half and not self.cell.norms:
                    np.add(product, self._bias, product)
                for t in range(start, stop):
                    first = (t - start) * batch
                    self._step(product[:, first : first + batch], m, outputs[t], buffers)
                    m = outputs[t]
                    for letter, values in kept.items():
                        values[t] = m if letter == "m" else buffers.parts[letter]
        return buffers.c, m.copy()

    def _step(self, x: Array, m: Array, m_new: Array, buffers: _Buffers) -> None:
        """Make c and the gates in the buffers those of the next step, and fill the new m."""
        cell, c, other = self.cell, buffers.c, buffers.other
        self._sum_gates(x, m, buffers)
        i, j, f, o = (buffers.parts[gate] for gate in "ijfo")
        for gate, part in (("i", i), ("f", f)):
            if gate in cell.peepholes:
                np.add(part, np.multiply(cell.peepholes[gate], c, other), part)
        self._recurrent_activation(f, f)
        if "i" in cell.gates:
            self._recurrent_activation(i, i)
        else:
            np.subtract(1, f, i)
        self._candidate(j, j)
        np.multiply(f, c, c)
        np.add(np.multiply(i, j, other), c, c)
        if "c" in cell.norms:
            self._normalise(c, cell.norms["c"])
        if cell.cell_clip is not None:
            np.clip(c, -cell.cell_clip, cell.cell_clip, c)
        if "o" in cell.peepholes:
            np.add(o, np.multiply(cell.peepholes["o"], c, other), o)
        self._recurrent_activation(o, o)
        self._activation(c, other)
        if self._projection is None:
            np.multiply(o, other, m_new)
            return
        np.multiply(o, other, other)
        m_new[...] = np.matmul(other.astype(self._wide, copy=False), self._projection)
        if cell.proj_clip is not None:
            np.clip(m_new, -cell.proj_clip, cell.proj_clip, m_new)

    def _sum_gates(self, x: Array, m: Array, buffers: _Buffers) -> None:
        """Fill the gates with all that does not depend on c."""
        cell, z, wide = self.cell, buffers.z, buffers.wide
        if cell.recurrent.ndim == 1:
            np.multiply(m, self._recurrent, wide)
        else:
            np.matmul(m.astype(self._wide, copy=False), self._recurrent, wide)
        np.add(wide, x, z, casting="same_kind")
        if self._is_half and not cell.norms:
            np.add(z, self._bias, z)
        for gate, norm in cell.norms.items():
            if gate != "c":
                self._normalise(buffers.parts[gate], norm)
        f = buffers.parts["f"]
        np.add(f, f.dtype.type(cell.forget_bias), f)

    def _normalise(self, values: Array, norm: Norm) -> None:
        """Layer norm over the units, with the variance of all of them."""
        epsilon = values.dtype.type(self.cell.norm_epsilon)
        if not self._is_half:
            np.subtract(values, values.mean(-1, keepdims=True), values)
            variance = np.square(values).mean(-1, keepdims=True)
            np.multiply(values, norm.gamma / np.sqrt(variance + epsilon), values)
            np.add(values, norm.beta, values)
            return
        # nn.moments sums in float32, and nn.batch_normalization computes in float16.
        wide = values.astype(np.float32)
        mean = wide.mean(-1, keepdims=True)
        variance = np.square(wide - mean).mean(-1, keepdims=True).astype(np.float16)
        spread = (variance + epsilon).astype(np.float32)
        scale = norm.gamma * (1 / np.sqrt(spread)).astype(np.float16)
        np.add(values * scale, norm.beta - mean.astype(np.float16) * scale, values)


class _Buffers:
    """The arrays that every step fills again.

    Attributes:
        inputs: the input's part of the gates, for some steps: `[G, steps · batch, H]`.
        z, wide: the gates `[G, batch, H]`, and their sums as products give them.
        parts: the gates, and c, by their letters.
    """

    def __init__(
        self, cell: CanonicalCell, wide: np.dtype[np.generic], batch: int, steps: int
    ) -> None:
        gates, units = len(cell.gates), cell.widths.c
        self.inputs = np.empty((gates, steps * batch, units), wide)
        self.z = np.empty((gates, batch, units), cell.dtype)
        self.wide = self.z if wide == cell.dtype else np.empty(self.z.shape, wide)
        self.c = np.empty((batch, units), cell.dtype)
        self.other = np.empty_like(self.c)
        self.parts = dict(zip(cell.gates, self.z, strict=True)) | {"c": self.c}
        self.parts.setdefault("i", np.empty_like(self.c))  # 1 - f, where it has no weights
