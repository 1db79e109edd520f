"""The tables of `lstmstate inspect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from lstmstate.cells.cell import Cell, Option, SavedState, Stack, unexplained_words
from lstmstate.checkpoint.dtypes import STRING
from lstmstate.checkpoint.object_graph import object_path
from lstmstate.checkpoint.variables import NUMBERED
from lstmstate.cli.report import text
from lstmstate.cli.report.console import Sheet
from lstmstate.cli.report.flags import with_flags
from lstmstate.errors import LstmstateError, printable
from lstmstate.model.checkpoint import LSTMCheckpoint
from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    from lstmstate.cells.weight_stats import GateStats
    from lstmstate.model.confirm import Confirmation

_FORMATS = {
    "v1": "TensorFlow V1 checkpoint",
    "v2": "TensorFlow V2 checkpoint",
    "saved_model": "TensorFlow SavedModel",
    "object_based": "TensorFlow object-based checkpoint",
    "frozen_graph": "TensorFlow frozen graph",
    "generator_bundle": "Magenta bundle of a TensorFlow V1 checkpoint and its graph",
}
_ARROWS = {"forward": "fw", "backward": "bw", None: ""}
Unrecognised = tuple[Sequence[Cell], Sequence[str]]
_STATE_COLUMNS = (("tuple", "left"), ("flat", "left"), ("columns in the flat layout", "words"))
_YES_OR_NO = {None: text.UNKNOWN, True: "yes", False: "no"}


def checkpoint_tables(
    sheet: Sheet,
    ckpt: LSTMCheckpoint,
    cells: Sequence[Cell],
    confirmed: Mapping[str, Confirmation] | None,
    unrecognised: Unrecognised | None,
    *,
    variables: bool,
    narrowed: bool,
) -> None:
    """Print the contents of a checkpoint.

    Args:
        confirmed: whether the graph confirms each cell; None if this was not asked for.
        unrecognised: the cells of no known family; None if the graph was not evaluated.
        narrowed: whether the user asked for some cells only.
    """
    _header(sheet, ckpt)
    if not cells:
        if not ckpt.unrecognised_words:
            sheet.line()
            none = "No LSTM cell in it." if ckpt.has_no_cell else f"LSTM cells: {ckpt.no_cells}."
            sheet.line(none)
    else:
        _options(sheet, cells, _cells(sheet, ckpt, cells, confirmed))
        shown = {cell.name for cell in cells}
        stacks = [
            stack.info
            for stack in ckpt.stacks.values()
            if all(cell.name in shown for layer in stack.layers for cell in layer)
        ]
        _states(sheet, cells, stacks)
        if ckpt.states:
            keras = {name for name, cell in ckpt.cells.items() if _is_keras(cell.info)}
            _saved(sheet, list(ckpt.states.values()), keras)
    if ckpt.unrecognised_words and not narrowed:
        _unrecognised(sheet, ckpt, unrecognised)
    if ckpt.candidates and not narrowed:
        sheet.line()
        sheet.line(
            "Cells or dense layers (their shapes fit both, and there is no graph): "
            + ", ".join(map(text.name, ckpt.candidates))
        )
    remarks = []
    for cell in cells:
        remarks += [(cell.name, note) for note in cell.notes]
        odd = unexplained_words(cell.unexplained)
        if odd is not None:
            remarks.append((cell.name, odd))
        confirmation = (confirmed or {}).get(cell.name)
        if confirmation is not None and confirmation.reason:
            remarks.append((cell.name, _confirmed_line(confirmation)))
    if remarks:
        sheet.line()
    for name, remark in remarks:
        sheet.line(f"{text.name(name)}: {remark}")
    if variables:
        _variables(sheet, ckpt)


def _header(sheet: Sheet, ckpt: LSTMCheckpoint) -> None:
    kinds = Counter(variable.spec for variable in ckpt.variables.values())
    numbers = {kind: many for kind, many in kinds.items() if kind.dtype is not STRING}
    sheet.title(text.name(ckpt.prefix))
    version, era = ckpt.tensorflow_version, ckpt.era
    facts = [
        _FORMATS[ckpt.format],
        f"written by TensorFlow {printable(version)}"
        if version
        else "no graph file (.meta)"
        if ckpt.graph is None
        else "TensorFlow version unknown",
    ]
    if ckpt.graph_damage:
        facts[1:] = ["graph damaged"] if ckpt.graph is None else [facts[1], "graph damaged"]
    if era:
        facts.append(f"variable names of TensorFlow {era}")
    sheet.line("; ".join(facts))
    sheet.line(
        f"{text.count(len(ckpt.files.data_files), 'data file')}, "
        f"{text.count(len(ckpt.variables), 'variable')}, "
        f"{text.count(sum(many * kind.size for kind, many in numbers.items()), 'parameter')}, "
        f"{text.size(sum(many * (kind.nbytes or 0) for kind, many in kinds.items()))}"
    )


def _confirmed_line(confirmation: Confirmation) -> str:
    """Return why the graph does not confirm a cell."""
    verb = "cannot confirm it" if confirmation.agrees is None else "contradicts it"
    return f"the graph {verb}: {with_flags(confirmation.reason or '')}"


def _cells(
    sheet: Sheet,
    ckpt: LSTMCheckpoint,
    cells: Sequence[Cell],
    confirmed: Mapping[str, Confirmation] | None,
) -> list[list[str]]:
    """Print one row per cell, its class and widths; return the rows."""
    sheet.heading(text.count(len(cells), "LSTM cell"))
    proj = any(cell.num_proj for cell in cells)
    sides = any(cell.direction for cell in cells)
    columns = [("#", "lead"), ("cell", "name"), ("family", "left")]
    columns += [("dir", "left")] if sides else []
    columns += [("kernel", "left"), ("input", "right"), ("units", "right")]
    columns += [("proj", "right")] if proj else []
    columns += [("gates", "left"), ("peep", "left")]
    columns += [("confirmed", "left")] if confirmed is not None else []
    rows = []
    for number, cell in enumerate(cells, 1):
        row = [str(number), text.name(cell.name), _family(cell)]
        row += [_ARROWS[cell.direction]] if sides else []
        row += [_kernel(ckpt, cell), _width(cell.input_size), _width(cell.num_units)]
        row += [str(cell.num_proj or text.NOTHING)] if proj else []
        row += [cell.gate_order, _YES_OR_NO[cell.peepholes]]
        row += [_YES_OR_NO[confirmed[cell.name].agrees]] if confirmed is not None else []
        rows.append(row)
    sheet.table(columns, rows)
    return rows


def _options(sheet: Sheet, cells: Sequence[Cell], before: Sequence[Sequence[str]]) -> None:
    """Print one row per cell, its options, and the legend of these rows and those before."""
    names = ["forget_bias", "cell_clip", "proj_clip", "activation"]
    names += ["state_is_tuple", "batch_size", "time_major"]
    headings = [{"state_is_tuple": "tuple", "batch_size": "batch"}.get(one, one) for one in names]
    kinds = ["right", "right", "right", "left", "left", "right", "left"]
    columns = [("#", "lead"), *zip(headings, kinds, strict=True)]
    sheet.line()
    rows = [
        [str(number), *(_marked(name, cell.options[name]) for name in names)]
        for number, cell in enumerate(cells, 1)
    ]
    sheet.table(columns, rows)
    marks = [*before, *rows]
    for number, cell in enumerate(cells, 1):
        # Only Keras has this option: a column would be the same in nearly all tables.
        gates = cell.options["recurrent_activation"]
        if gates.source != "family" and gates != Option("sigmoid", "graph"):
            value = _marked("recurrent_activation", gates)
            marks.append([value])
            several = cell.documented.get("recurrent_activation")
            words = f" ({several.words})" if several else ""
            sheet.line(f"  recurrent_activation of {number}: {value}{words}")
        if "family" in cell.documented:
            words = cell.documented["family"].words
            sheet.line(f"  family of {number}: {cell.family}{text.DEFAULT} ({words})")
    for line in text.legend(marks):
        sheet.line(line)


def _marked(name: str, option: Option) -> str:
    if name == "batch_size" and option.value is None and option.source == "graph":
        return "any"
    return text.option(option) + text.mark(option.source, option.value)


def _states(sheet: Sheet, cells: Sequence[Cell], stacks: Sequence[Stack]) -> None:
    """Print the shapes of the state of each cell and each stack, in both layouts."""
    rows = []
    numbers = {cell.name: str(number) for number, cell in enumerate(cells, 1)}
    for cell in cells:
        state = cell.state
        if state is None:
            continue
        if _is_keras(cell):
            row = [f"h [B, {state.m}], c [B, {state.c}]", text.NOTHING, text.NOTHING]
        else:
            tuples = f"c [B, {state.c}], m [B, {state.m}]"
            row = [tuples, f"[B, {state.flat}]", _columns(*state.columns())]
        rows.append([numbers[cell.name], *row])
    for stack in stacks:
        parts = stack.columns()
        in_order = [cell for layer in stack.layers for cell in layer]
        if not parts and len(stack.layers) == len(in_order):
            cells_of = "+".join(numbers[cell.name] for cell in in_order)
            order = " [h, c]" if all(map(_is_keras, in_order)) else ""
            rows.append([cells_of, f"{len(in_order)} pairs{order}", text.NOTHING, text.NOTHING])
        if len(parts) > 1:
            rows.append(
                [
                    "+".join(numbers[cell.name] for cell, _, _ in parts),
                    f"{len(parts)} pairs (c, m)",
                    f"[B, {stack.flat}]",
                    "; ".join(_columns(c, m) for _, c, m in parts),
                ]
            )
    if rows:
        sheet.heading("State shapes (B: batch size)")
        text.table(sheet, [("#", "lead"), *_STATE_COLUMNS], rows)


def _is_keras(cell: Cell) -> bool:
    """Whether a cell calls its m h, and gives it first."""
    return cell.native_layout == "keras"


def _unrecognised(sheet: Sheet, ckpt: LSTMCheckpoint, found: Unrecognised | None) -> None:
    """Print the recurrences in the graph that fit no family."""
    cells, refused = found or ([], ())
    if not cells:
        names = ", ".join(map(text.name, ckpt.recurrences or ()))
        sheet.line()
        sheet.line(f"{ckpt.unrecognised_words}{f': {names}' if names else ''}")
        for reason in refused:
            sheet.line(f"  {printable(with_flags(reason))}")
        return
    sheet.heading(f"{ckpt.unrecognised_words}, which `run --engine graph` runs")
    states = [(cell, cell.state) for cell in cells]
    sheet.table(
        [("cell", "name"), *_STATE_COLUMNS],
        [
            [
                text.name(cell.name),
                f"c [B, {state.c}], m [B, {state.m}]",
                f"[B, {state.flat}]",
                _columns(*state.columns()),
            ]
            for cell, state in states
            if state is not None
        ],
    )


def _columns(c: tuple[int, int], m: tuple[int, int]) -> str:
    """Return the ranges of c and m in a flat state, without their ends, as in Python."""
    return f"c {c[0]}:{c[1]} m {m[0]}:{m[1]}"


def _saved(sheet: Sheet, states: list[SavedState], keras: Collection[str]) -> None:
    """Print the states in variables of the checkpoint; m is h in the cells of Keras."""
    sheet.heading("Saved states")
    text.table(
        sheet,
        [("variable", "name"), ("layout", "left"), ("shape", "left"), ("cell or stack", "left")],
        [
            [
                printable(state.variable),
                "h" if state.layout == "m" and state.cell in keras else state.layout,
                text.shape(state.shape),
                printable(state.cell or state.stack or text.UNKNOWN),
            ]
            for state in states
        ],
    )


def verified_line(sheet: Sheet, values: int, damaged: Sequence[LstmstateError]) -> None:
    """Print how many values could be read, and the names of the others."""
    sheet.line()
    sheet.line(
        f"{values - len(damaged):,} of {text.count(values, 'value')} are undamaged"
        + "".join(f"; damaged: {printable(error.tensor or '')}" for error in damaged[:1])
        + "".join(f", {printable(error.tensor or '')}" for error in damaged[1:])
    )


def stats_tables(sheet: Sheet, cells: Sequence[Cell], stats: dict[str, list[GateStats]]) -> None:
    """Print the figures of each tensor, gate by gate."""
    for number, cell in enumerate(cells, 1):
        sheet.heading(f"{number}  {text.name(cell.name)}")
        numbers = ("min", "max", "mean", "std", "zeros", "NaN", "Inf")
        text.table(
            sheet,
            [("tensor", "left"), ("gate", "left"), *((name, "right") for name in numbers)],
            [
                [
                    role,
                    gate or "",
                    *map(text.number, found.moments().values()),
                    *(f"{n:,}" for n in (found.zeros, found.nan, found.inf)),
                ]
                for role, gate, found in stats[cell.name]
            ],
        )


def _variables(sheet: Sheet, ckpt: LSTMCheckpoint) -> None:
    """Print all variables except slots, which are counted."""
    roles = {name: ckpt.role(name) for name in ckpt.variables}
    shown = [name for name, (role, _) in roles.items() if role != "slot"]
    slots = len(roles) - len(shown)
    full_names = Counter(variable.full_name for variable in ckpt.variables.values())
    folded = f", {text.count(slots, 'slot')} of optimizers and averages left out" if slots else ""
    role = ("role", "left")
    sheet.heading(f"{text.count(len(shown), 'variable')}{folded}")
    text.table(
        sheet,
        [("variable", "name"), ("shape", "left"), ("dtype", "left"), ("bytes", "right"), role],
        [
            [
                _full(ckpt, name, full_names),
                text.shape(ckpt.variables[name].shape),
                ckpt.variables[name].dtype,
                text.size(ckpt.variables[name].nbytes),
                "" if roles[name][0] == "other" else roles[name][0],
            ]
            for name in shown
        ],
    )


def _full(ckpt: LSTMCheckpoint, name: str, full_names: Counter[str | None]) -> str:
    """Return the path of a variable, and its name in the graph if it has another."""
    full = ckpt.variables[name].full_name
    # A numbered variable is known by its name in the graph, unless another has it too.
    path = object_path(name) or name
    numbered = path.startswith(NUMBERED) and full_names[full] == 1
    shown = full if full and numbered else path if full else name
    also = f" = {printable(full)}" if full and full != shown else ""
    return printable(shown) + also


def _kernel(ckpt: LSTMCheckpoint, cell: Cell) -> str:
    """Return the shape of the kernel, with the number of its shards or groups."""
    stored = next(iter(cell.variables.values()))
    times = f"{len(stored)} x " if len(stored) > 1 else ""
    return times + text.shape(ckpt.variables[stored[0]].shape)


def _family(cell: Cell) -> str:
    mark = text.DEFAULT if "family" in cell.documented else ""
    return " or ".join((cell.family, *cell.alternatives)) + mark


def _width(width: int | None) -> str:
    return text.UNKNOWN if width is None else str(width)
