"""The widths of cells from the shapes of their variables: one function for each layout.

Each takes {role: shapes, one a shard} and returns `CellWidths`, or None if the shapes are not those
of such a cell, so that other layers with the same names are excluded.
Shapes: I input, H num_units, P num_proj, R = P if there is a projection, else H.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

from lstmstate.named_tuple import NamedTuple

Shape = tuple[int, ...]
Shapes = dict[str, tuple[Shape, ...]]
Measure = Callable[["Shapes"], "CellWidths | None"]


class CellWidths(NamedTuple):
    """The widths of a cell; None if its variables do not show them."""

    input_size: int | None
    num_units: int | None
    num_proj: int | None = None
    shard_axis: int | None = None
    groups: int | None = None
    peepholes: bool | None = None
    gate_order: str | None = None


PEEPHOLES = ("w_i_diag", "w_f_diag", "w_o_diag")


def _whole(measure: Measure) -> Measure:
    """Restrict a function to cells that only have the projection in parts."""

    @wraps(measure)
    def measure_whole(shapes: Shapes) -> CellWidths | None:
        if any(len(parts) != 1 for role, parts in shapes.items() if role != "projection"):
            return None
        return measure(shapes)

    return measure_whole


def fused(
    shapes: Shapes, gates: int = 4, states: int = 1, least_input: int = 1
) -> CellWidths | None:
    """One kernel `[I + states·R, gates·H]`, whole or in shards, bias `[gates·H]`.

    Shards are joined on columns (0.5 and 0.6) if all have the same rows and the widths sum
    to the bias; on rows (0.7 on) if each has all the columns.
    """
    bias = shapes.get("bias")
    wide = sum(math.prod(shard) for shard in bias) if bias else None
    joined, axis = _join(shapes["kernel"], wide)
    if joined is None or joined[1] % gates or (wide is not None and wide != joined[1]):
        return None
    if any(len(shard) != 1 for shard in bias or ()):
        return None
    rows, units = joined[0], joined[1] // gates
    proj = _projection(shapes, units)
    recurrent = states * (units if proj is None else proj)
    if units < 1 or proj == 0 or rows < recurrent + least_input or not _diagonal(shapes, units):
        return None
    return CellWidths(rows - recurrent, units, proj, axis)


def coupled(shapes: Shapes) -> CellWidths | None:
    """Kernel `[I + R, 3H]`: the input gate is 1 - f."""
    return fused(shapes, gates=3)


def lingvo(shapes: Shapes) -> CellWidths | None:
    """As `fused`, with the gates j, i, f, o, or j, f, o if i is 1 - f.

    If both fit the widths are unknown.
    """
    if shapes.get("mask", shapes["kernel"]) != shapes["kernel"]:
        return None
    ways = [(fused(shapes, gates=len(order)), order) for order in ("jifo", "jfo")]
    fits = [found._replace(gate_order=order) for found, order in ways if found is not None]
    return fits[0] if len(fits) == 1 else CellWidths(None, None) if fits else None


def lingvo_norm(shapes: Shapes) -> CellWidths | None:
    """As `fused`, with a bias `[8H]`: 4H biases, then 4H scales of a layer norm."""
    kernel, bias = shapes["kernel"], shapes["bias"]
    if [len(shape) for shape in kernel] != [2] or bias != ((2 * kernel[0][1],),):
        return None
    return fused({role: parts for role, parts in shapes.items() if role != "bias"})


def time_freq(shapes: Shapes) -> CellWidths | None:
    """Kernel `[feature_size + 2H, 4H]`: the m of the time step and of the last frequency."""
    return fused(shapes, states=2)


def layer_norm(shapes: Shapes) -> CellWidths | None:
    """As `fused`, with `gamma` and `beta` `[H]` for each norm."""
    found = fused(shapes)
    norms = [
        shape for role in shapes if role.endswith(("/gamma", "/beta")) for shape in shapes[role]
    ]
    return found if found and all(shape == (found.num_units,) for shape in norms) else None


def masked(shapes: Shapes) -> CellWidths | None:
    """As `fused`, with a mask of the kernel's shape."""
    return fused(shapes) if shapes["mask"] == shapes["kernel"] else None


def weight_norm(shapes: Shapes) -> CellWidths | None:
    """As `fused`, with a gain `[4H]` for the input rows and one for the recurrent rows."""
    found = fused(shapes)
    wide = ((4 * found.num_units,),) if found and found.num_units else None
    return found if wide and shapes["norm_0"] == shapes["norm_1"] == wide else None


@_whole
def keras(shapes: Shapes) -> CellWidths | None:
    """Kernel `[I, 4H]`, recurrent kernel `[R, 4H]`, bias `[4H]`, projection `[H, P]`."""
    return _two_kernels(shapes, gates=4, bias_sets=(1,))


@_whole
def keras_cudnn(shapes: Shapes) -> CellWidths | None:
    """As `keras`, with a bias `[8H]`: that of the input, then that of the recurrent part."""
    return _two_kernels(shapes, gates=4, bias_sets=(2,))


@_whole
def nas(shapes: Shapes) -> CellWidths | None:
    """Kernel `[I, 8H]`, recurrent kernel `[R, 8H]`, projection `[H, P]`."""
    return _two_kernels(shapes, gates=8, bias_sets=(1,))


@_whole
def indy(shapes: Shapes) -> CellWidths | None:
    """Kernel `[I, 4H]`, recurrent weights `[1, 4H]` that act unit by unit, bias `[4H]`."""
    (kernel,), (recurrent,) = shapes["kernel"], shapes["recurrent_kernel"]
    if len(kernel) != 2 or kernel[1] % 4 or kernel[1] == 0 or recurrent != (1, kernel[1]):
        return None
    if shapes.get("bias", (kernel[1:],)) != (kernel[1:],):
        return None
    return CellWidths(kernel[0], kernel[1] // 4)


def grouped(shapes: Shapes) -> CellWidths | None:
    """GLSTM: a kernel `[(I + R)/G, 4H/G]` for each of G groups, or one that all share.

    In 1.2 to 1.6 its rows were `2R/G` for every I, so only 1.7 and later show I; if
    both have the same shapes, or one kernel is shared (1.4 to 1.6), it is unknown.
    """
    units = shapes["bias_i"][0][0] if len(shapes["bias_i"][0]) == 1 else 0
    kernels = shapes["kernel"]
    if not units or len(set(kernels)) != 1 or len(kernels[0]) != 2:
        return None
    rows, columns = kernels[0]
    groups = 4 * units // columns if columns else 0
    if groups * columns != 4 * units or len(kernels) not in (1, groups):
        return None
    proj = _projection(shapes, units)
    recurrent = units if proj is None else proj
    shared = len(kernels) == 1 and groups > 1
    input_size = rows * groups - recurrent
    if rows == 2 * (recurrent // groups) and (shared or input_size == recurrent):
        return CellWidths(None if shared else input_size, units, proj, groups=groups)
    return CellWidths(input_size, units, proj, groups=groups) if input_size > 0 else None


@_whole
def tflite(shapes: Shapes) -> CellWidths | None:
    """A matrix `[H, I]` and a recurrent one `[H, R]` for each gate; projection `[P, H]`."""
    (kernel,), (recurrent,) = shapes["input_to_cell_w"], shapes["cell_to_cell_w"]
    if len(kernel) != 2 or len(recurrent) != 2 or kernel[0] != recurrent[0] or not kernel[0]:
        return None
    units, width = recurrent
    projection = shapes.get("projection")
    if projection and projection != ((width, units),):
        return None
    if not projection and width != units:
        return None
    return CellWidths(kernel[1], units, width if projection else None)


@_whole
def phased(shapes: Shapes) -> CellWidths | None:
    """New input `[I + H, H]`, mask gates `[I + H, 2H]` (peepholes: c below, `[I + 2H, 2H]`)."""
    (kernel,) = shapes["new_input"]
    if len(kernel) != 2 or shapes["period"] != ((kernel[1],),) or kernel[0] <= kernel[1]:
        return None
    (mask,) = shapes["mask_gates"]
    rows = kernel[0] + kernel[1]
    if mask not in ((kernel[0], 2 * kernel[1]), (rows, 2 * kernel[1])):
        return None
    return CellWidths(kernel[0] - kernel[1], kernel[1], peepholes=mask[0] == rows)


def grid(shapes: Shapes) -> CellWidths | None:
    """Kernel `[feature_size + 2H, 4H]`, or 3H with coupled gates (i, j, o).

    If both fit the widths are unknown, and I always: the rows are the input of one frequency step.
    """
    bias = shapes["bias"][0]
    joined, axis = _join(shapes["kernel"], bias[0] if len(bias) == 1 else None)
    if joined is None or bias != (joined[1],):
        return None
    fits = [
        CellWidths(None, joined[1] // len(gates), shard_axis=axis, gate_order=gates)
        for gates in ("ijfo", "ijo")
        if not joined[1] % len(gates) and joined[0] > 2 * joined[1] // len(gates) > 0
    ]
    return fits[0] if len(fits) == 1 else CellWidths(None, None, shard_axis=axis) if fits else None


def grid_dimension(shapes: Shapes) -> CellWidths | None:
    """A cell of a grid of D dimensions, kernel `[D·H, 4H]`: no rows of input if D is 1."""
    return fused(shapes, least_input=0)


@_whole
def convolution(shapes: Shapes) -> CellWidths | None:
    """Kernel `[*window, Cin + C, 4C]`: widths are numbers of channels."""
    (kernel,) = shapes["kernel"]
    if (
        not 3 <= len(kernel) <= 5
        or kernel[-1] % 4
        or kernel[-2] <= kernel[-1] // 4
        or not kernel[-1]
    ):
        return None
    channels = kernel[-1] // 4
    if shapes.get("bias", ((4 * channels,),)) != ((4 * channels,),):
        return None
    return CellWidths(kernel[-2] - channels, channels)


@_whole
def keras_convolution(shapes: Shapes) -> CellWidths | None:
    """Kernel `[*window, Cin, 4C]`, recurrent kernel `[*window, C, 4C]`."""
    (kernel,), (recurrent,) = shapes["kernel"], shapes["recurrent_kernel"]
    if not 3 <= len(kernel) <= 5 or len(recurrent) != len(kernel):
        return None
    channels = kernel[-1] // 4
    if not channels or recurrent[-2:] != (channels, 4 * channels) or kernel[-1] % 4:
        return None
    return CellWidths(kernel[-2], channels)


@_whole
def opaque(shapes: Shapes) -> CellWidths | None:
    """cuDNN's buffer `[n]`: its length alone does not show the widths."""
    (buffer,) = shapes["opaque_kernel"]
    return CellWidths(None, None) if len(buffer) == 1 else None


def _two_kernels(shapes: Shapes, gates: int, bias_sets: tuple[int, ...]) -> CellWidths | None:
    (kernel,), (recurrent,) = shapes["kernel"], shapes["recurrent_kernel"]
    if len(kernel) != 2 or len(recurrent) != 2 or kernel[1] % gates or kernel[1] != recurrent[1]:
        return None
    units = kernel[1] // gates
    proj = _projection(shapes, units)
    if not units or not kernel[0] or recurrent[0] != (units if proj is None else proj):
        return None
    bias = shapes.get("bias")
    if bias and math.prod(bias[0]) not in [sets * gates * units for sets in bias_sets]:
        return None
    return CellWidths(kernel[0], units, proj)


def _projection(shapes: Shapes, units: int) -> int | None:
    """Return P, None without a projection, 0 if its shapes do not fit."""
    shards = shapes.get("projection")
    if not shards:
        return None
    if any(len(shard) != 2 for shard in shards):
        return 0
    if all(shard[0] == units for shard in shards):  # whole, or cut by columns
        return sum(shard[1] for shard in shards)
    same = len({shard[1] for shard in shards}) == 1
    return shards[0][1] if same and sum(shard[0] for shard in shards) == units else 0


def _join(shards: tuple[Shape, ...], columns: int | None) -> tuple[Shape | None, int | None]:
    """Return the shape of a kernel's shards joined, and the axis they are to be joined on."""
    if any(len(shard) != 2 for shard in shards):
        return None, None
    if len(shards) == 1:
        return shards[0], None
    rows = {shard[0] for shard in shards}
    widths = {shard[1] for shard in shards}
    wide = sum(shard[1] for shard in shards)
    if len(rows) == 1 and wide == columns:
        return (shards[0][0], wide), 1
    if len(widths) == 1:
        return (sum(shard[0] for shard in shards), shards[0][1]), 0
    return None, None


def _diagonal(shapes: Shapes, units: int) -> bool:
    return all(shapes[role] == ((units,),) for role in PEEPHOLES if role in shapes)
