"""A cell whose steps are compiled C: `steps.c`, an optional extension of this package.

It takes float32 and float64, every option of a cell but norms, and the activations of `_CODES`;
`numpy_cell` runs all others. Where the extension was not built, or LSTMSTATE_KERNEL is 0, it runs
every cell.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from lstmstate.engines.canonical_network import Array, CanonicalCell, Pair, spans, steps_at_once
from lstmstate.engines.numpy_cell import NumpyCell
from lstmstate.named_tuple import NamedTuple

SWITCH = "LSTMSTATE_KERNEL"

# As in `steps.c`.
_CODES = {
    name: code
    for code, name in enumerate(
        (
            *("tanh", "sigmoid", "hard_sigmoid", "keras3_hard_sigmoid", "relu", "relu6"),
            *("leaky_relu", "elu", "selu", "softsign", "identity"),
        )
    )
}
_STANDARD = ("tanh", "tanh", "sigmoid")  # activations of c, j, and i, f and o
_KEPT = "ijfoc"
_PROJECTED_AT_ONCE = 4  # vectors of columns
# The input's part of the gates is computed for so many bytes of steps at once, which stay in the
# processor's caches.
_CHUNK_BYTES = 1 << 18
_LINE_BYTES = 64
# Rows of a batch are run in parts whose gates have so many numbers.
_GATES = 1 << 22
# Multiplications of a call: a fraction of a second, after which a signal is noticed.
_CALL = 1 << 30
# Multiplications of a step for each thread: the threads wait for one another in every step.
_WORTH_A_THREAD = 100_000
_WORTH_STARTING = 5_000_000  # of all steps, for each thread: to start one takes some 50 µs
_MOST_THREADS = 8
_MANY = 1 << 10  # processors, where nothing limits them
# Threads share the rows of a batch if each gets so many: they never wait for one another then. Each
# reads all weights, so that it is worth it for fewer rows where they stay in its own cache.
_ROWS, _MANY_ROWS = 4, 16
_CACHED_BYTES = 1 << 20


class _Steps(NamedTuple):
    """The fields of `struct steps`, up to the addresses of its arrays."""

    steps: int
    batch: int
    inputs: int
    units: int
    width: int
    gates: int
    padded: int
    columns: int
    chunk: int
    threads: int
    by_rows: bool
    is_standard: bool
    activation: int
    candidate: int
    recurrent_activation: int
    has_cell_clip: bool
    has_proj_clip: bool
    keeps: bool
    forget_bias: float
    cell_clip: float
    proj_clip: float


_FORM = struct.Struct("@9n9i3d16P2i")


def find_extension() -> tuple[Any, str]:
    """Return the compiled module and "", or None and the reason why NumPy runs all cells."""
    if os.environ.get(SWITCH) == "0":
        return None, f"{SWITCH} is 0"
    try:
        import lstmstate.engines._steps as module
    except ModuleNotFoundError:
        return None, "the extension was not built"
    except ImportError as error:
        return None, f"the extension cannot be loaded ({error})"
    return module, ""


@cache
def extension() -> Any:
    """Return the compiled module, None if NumPy runs all cells."""
    return find_extension()[0]


def can_run(cell: CanonicalCell) -> bool:
    """Return whether the compiled steps have all of a cell, and are there."""
    functions = {cell.activation, cell.candidate, cell.recurrent_activation}
    fits = cell.dtype in (np.float32, np.float64) and not cell.norms and cell.recurrent.ndim == 2
    return fits and functions <= _CODES.keys() and extension() is not None


class CompiledCell:
    """A cell that is ready to run; see `NumpyCell`, which has the same methods.

    Weights are laid out in panels, `[panels, rows, gates, lanes]`: the columns of all gates for as
    many units as a vector of the processor has lanes, with zeros for the units that are missing.

    Args:
        kind: the number of a kind of vectors that the processor has; 0 for the widest.
    """

    def __init__(self, cell: CanonicalCell, kind: int = 0) -> None:
        self.cell = cell
        self._kind = kind
        _, size = extension().vectors()[kind]
        self._lanes = size // cell.dtype.itemsize
        units = cell.widths.c
        self._padded: int = -(-units // self._lanes) * self._lanes
        gates = len(cell.gates)
        self._kernel, self._recurrent, self._bias = (
            self._panels(weights.reshape(-1, gates, units))
            for weights in (cell.kernel, cell.recurrent, cell.bias)
        )
        self._peepholes = self._projection = None
        if cell.peepholes:
            self._peepholes = _aligned((3, self._padded), cell.dtype)
            for row, gate in zip(self._peepholes, "ifo", strict=True):
                row[:units] = cell.peepholes.get(gate, 0)
        if cell.projection is not None:
            wide = _PROJECTED_AT_ONCE * self._lanes
            width = cell.widths.m
            columns = np.zeros((units, -(-width // wide) * wide), cell.dtype)
            columns[:, :width] = cell.projection
            by_panel = columns.reshape(units, -1, wide).transpose(1, 0, 2)
            self._projection = _aligned(by_panel.shape, cell.dtype)
            self._projection[...] = by_panel

    def in_float64(self) -> NumpyCell:
        """Return the same cell, computing in float64; for a few steps, its weights as they are."""
        return NumpyCell(self.cell.in_float64())

    def _panels(self, weights: Array) -> Array:
        rows, gates, _ = weights.shape
        lanes = self._lanes
        panels = _aligned((self._padded // lanes, rows, gates, lanes), weights.dtype)
        for number, panel in enumerate(panels):
            part = weights[..., number * lanes : (number + 1) * lanes]
            panel[..., : part.shape[-1]] = part
        return panels

    @property
    def most_rows(self) -> int:
        """How many sequences of a batch are run at once."""
        return max(_GATES // (len(self.cell.gates) * self._padded), 1)

    def run(self, x: Array, c: Array, m: Array, outputs: Array, kept: Mapping[str, Array]) -> Pair:
        """Run over some steps; see `NumpyCell.run`."""
        cell, dtype = self.cell, self.cell.dtype
        steps, batch, inputs = x.shape
        units, width = cell.widths
        columns = len(cell.gates) * self._padded
        product = batch * columns * width
        at_once = max(_CALL // (product + batch * columns * inputs), 1)
        chunk = steps_at_once(batch * columns * dtype.itemsize, batch, _CHUNK_BYTES)
        chunk = min(chunk, at_once, steps)
        threads = _threads(product, steps)
        least_rows = _ROWS if self._recurrent.nbytes <= _CACHED_BYTES else _MANY_ROWS
        new_c = _aligned((batch, self._padded), dtype)
        new_c[:, :units] = c
        m = np.ascontiguousarray(m, dtype)
        sums = _aligned((chunk, batch, columns), dtype)
        unprojected = None if self._projection is None else np.empty((batch, units), dtype)
        for start, stop in spans(steps, at_once):
            part = np.ascontiguousarray(x[start:stop], dtype)
            made = outputs[start:stop]
            arrays = [
                *(part, m, self._kernel, self._recurrent, self._projection, self._bias),
                *(self._peepholes, new_c, sums, unprojected, made),
                *(kept[letter][start:stop] if letter in kept else None for letter in _KEPT),
            ]
            _refuse_others(arrays, dtype)
            plan = _Steps(
                steps=stop - start,
                batch=batch,
                inputs=inputs,
                units=units,
                width=width,
                gates=len(cell.gates),
                padded=self._padded,
                columns=columns,
                chunk=chunk,
                threads=threads,
                by_rows=batch >= threads * least_rows,
                is_standard=self._activations == _STANDARD,
                activation=_CODES[cell.activation],
                candidate=_CODES[cell.candidate],
                recurrent_activation=_CODES[cell.recurrent_activation],
                has_cell_clip=cell.cell_clip is not None,
                has_proj_clip=cell.proj_clip is not None and cell.projection is not None,
                keeps=any(letter in kept for letter in _KEPT),
                forget_bias=cell.forget_bias,
                cell_clip=cell.cell_clip or 0,
                proj_clip=cell.proj_clip or 0,
            )
            self._call(plan, arrays)
            m = made[-1]
        if "m" in kept:
            kept["m"][...] = outputs
        return new_c[:, :units].copy(), m.copy()

    @property
    def _activations(self) -> tuple[str, str, str]:
        return self.cell.activation, self.cell.candidate, self.cell.recurrent_activation

    def _call(self, plan: _Steps, arrays: list[Array | None]) -> None:
        """Run the steps of a plan over its arrays."""
        addresses = (0 if one is None else one.ctypes.data for one in arrays)
        is_double = int(self.cell.dtype == np.float64)
        extension().run(self._kind, is_double, _FORM.pack(*plan, *addresses, 0, 0))


def _refuse_others(arrays: Sequence[Array | None], dtype: np.dtype[Any]) -> None:
    """Refuse arrays whose bytes are not those that the compiled steps read and write."""
    for one in arrays:
        if one is not None and (one.dtype != dtype or not one.flags.c_contiguous):
            raise ValueError(f"expected arrays of {dtype} in C order, got {one.dtype}")


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros that begin with a line of the processor's caches: no vector crosses two."""
    size = math.prod(shape) * dtype.itemsize
    room = np.zeros(size + _LINE_BYTES - 1, np.uint8)
    start = -room.ctypes.data % _LINE_BYTES
    return room[start : start + size].view(dtype).reshape(shape)


def _threads(product: int, steps: int) -> int:
    """Return the number of threads for steps of so many multiplications each."""
    worth = min(product // _WORTH_A_THREAD, product * steps // _WORTH_STARTING)
    return max(min(_processors(), worth, _MOST_THREADS), 1)


def _processors() -> int:
    """Return how many processors this process may use."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(here or 1, _quota(), int(asked) if asked.isdecimal() and asked.isascii() else _MANY)


@cache
def _quota() -> int:
    """Return the processors that a container gives; more than there are without a limit."""
    with suppress(OSError, ValueError), open("/sys/fs/cgroup/cpu.max") as file:
        quota, period = map(int, file.read().split())
        return max(quota // period, 1)
    return _MANY
