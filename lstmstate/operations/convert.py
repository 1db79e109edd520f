"""Conversion of states between layouts and files, for `convert`, `split` and `concat`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from lstmstate.cells import state_names
from lstmstate.errors import LstmstateError, UnsupportedError, first_of, printable
from lstmstate.files.atomic import Outputs
from lstmstate.named_tuple import NamedTuple
from lstmstate.operations.load import Opened, states_in
from lstmstate.state.formats.array_writer import open_writer
from lstmstate.state.formats.checkpoint_arrays import add_state, add_text
from lstmstate.state.formats.registry import BY_KEY, StateKind, code, kind_of_name, kind_to_write
from lstmstate.state.layouts import LAYOUTS, Layout, Structure
from lstmstate.state.state_stream import Advance, StateStream, ignore

if TYPE_CHECKING:
    from lstmstate.model.checkpoint import LSTMCheckpoint
    from lstmstate.state.candidates import Wanted

# What `saved_states.groups` finds again; the others have no names of their own in a checkpoint.
_REWRITTEN = ("tuple", "flat", "layered", "keras")
_LISTED = 4  # variables that a note names
_LAYOUT_ENDING = re.compile(rf"\.(?:{'|'.join(LAYOUTS)})$")


class ConvertRequest(NamedTuple):
    """The states to take, and the file to write.

    Attributes:
        layout: that of the target, as in `layouts.LAYOUTS`.
        target: the file; None for one next to the source, or in `folder`, with its name.
        kind: the key of a kind of file, if the name of the target does not show it.
        variables: the states to take from a checkpoint; see `saved_states.states_of`.
        dtype: one of `NUMPY_FLOATS`, None for that of the source.
        compress: whether to compress an npz or h5.
    """

    layout: str
    target: str | None = None
    folder: str | None = None
    kind: str | None = None
    variables: Sequence[str] = ()
    dtype: str | None = None
    compress: bool = False


class Conversion(NamedTuple):
    """States that are read, in parts, while they are written into files.

    Attributes:
        targets: the files.
        streams: the states; their notes are complete when they are written.
        nbytes: the bytes to read.
        write_into: writes the files.
    """

    targets: Sequence[str]
    streams: Sequence[StateStream]
    nbytes: int
    write_into: Callable[[Outputs], None]

    def write(self, outputs: Outputs, advance: Advance = ignore) -> None:
        """Write the files; `advance` is called with the bytes of each part that has been read."""
        for stream in self.streams:
            stream.on_part = advance
        self.write_into(outputs)


def convert_opened(opened: Opened, wanted: Wanted, request: ConvertRequest) -> Conversion:
    """Return the conversion of a state, or of those of a checkpoint into a new checkpoint."""
    layout, ckpt, target = LAYOUTS[request.layout], opened.ckpt, request.target
    named = request.kind or (target and kind_to_write(target).key)
    every, variables = named == "ckpt", request.variables
    states = states_in(opened, wanted, variables, every=every, layout="from_layout")
    structure = states[0].structure
    if ckpt is not None:
        refuse_projections(
            ckpt, layout, [cell.name for one in states for cell in one.structure.cells]
        )
    default = request.kind or default_kind(layout, structure)
    if target is None:
        base, place = states[0].file.path, opened.place
        if ckpt is not None:
            base, place = ckpt.prefix, states[0].file.name if variables or place else None
        target = output_name(base, place, layout, BY_KEY[default], folder=request.folder)
    kind = kind_to_write(target, request.kind, default, compress=request.compress)
    dtype = None
    if request.dtype is not None:
        import numpy as np

        dtype = np.dtype(request.dtype)
    streams = [StateStream(state, layout, dtype) for state in states]
    if ckpt is not None and kind.key == "ckpt" and states[0].file.variables:
        rewrite = partial(rewrite_checkpoint, ckpt, streams, target=target)
        return Conversion([target], streams, opened.nbytes, rewrite)
    if len(streams) > 1:
        raise LstmstateError(
            "several states do not go into one file", path=target, advice="give one `variable=...`"
        )
    write = partial(write_state, streams[0], target=target, kind=kind, compress=request.compress)
    return Conversion([target], streams, structure.nbytes, write)


def refuse_projections(ckpt: LSTMCheckpoint, layout: Layout, cells: Iterable[str]) -> None:
    """Refuse torch's layout for cells that project to as many units as they have, or more.

    The widths of the state do not show a projection to as many.
    """
    for name in cells if layout.name == "torch" else ():
        cell = ckpt.cells.get(name)
        if cell is not None and (cell.num_proj or 0) >= (cell.num_units or 1):
            raise UnsupportedError(
                f"the layout 'torch' is that of torch.nn.LSTM, which projects to fewer units than "
                f"it has, and this cell projects {cell.num_units} units to {cell.num_proj}",
                path=ckpt.prefix,
                tensor=name,
                advice="convert its state to tuple or flat",
            )


def default_kind(layout: Layout, structure: Structure) -> str:
    """Return the key of the kind of file for a state in a layout."""
    names = layout.array_names(structure.cells, is_stack=structure.is_stack)
    return "npy" if len(names) == 1 else "npz"


def write_state(
    stream: StateStream, outputs: Outputs, target: str, kind: StateKind, *, compress: bool = False
) -> None:
    """Write a state into a file of its own."""
    stream.target = target
    if not kind.in_rows:
        code(kind.writer)(outputs, target, stream)
        return
    plans = stream.plans
    with open_writer(outputs, target, kind, plans, stream.metadata, compress=compress) as writer:
        stream.write([writer] * len(plans))


def rewrite_checkpoint(
    ckpt: LSTMCheckpoint, streams: Sequence[StateStream], outputs: Outputs, target: str
) -> None:
    """Write a checkpoint anew, with some of its states in another layout.

    Every other tensor is copied byte for byte, and the graph too: the cells keep their options; a
    graph that is read and cannot be copied leaves them in a tensor of `model.recorded_options`. A
    state `NAME` becomes `NAME/c` and `NAME/m`, `NAME/<cell>/c` and `NAME/<cell>/m` in a stack, and
    the other way round; one that is in the layout already keeps its names.
    """
    from lstmstate.checkpoint.checkpoint_writer import new_checkpoint

    if ckpt.files.object_based:
        raise UnsupportedError(
            "an object-based checkpoint names its variables in an object graph, which would no "
            "longer fit them",
            path=ckpt.prefix,
            advice="write the state into an .npz or .h5",
        )
    layout = streams[0].layout.name
    if layout not in _REWRITTEN:
        raise UnsupportedError(
            f"a state is kept in variables as {', '.join(_REWRITTEN)}, not as {layout}",
            path=target,
            advice="write it into an .npz or .h5",
        )
    ckpt.files.refuse_shared_bytes()
    gone = {name for stream in streams for name in stream.state.file.variables}
    kept = [name for name in ckpt.variables if name not in gone]
    states: dict[str, tuple[StateStream, int]] = {}  # name → the state that it is an array of
    for stream in streams:
        stream.target = target
        stream.variables = _names(stream)
        for number, name in enumerate(stream.variables):
            if name in states:
                raise LstmstateError("two of the states would have this name", tensor=name)
            states[name] = stream, number
    for name in states:
        if name in kept:
            raise LstmstateError("a variable has this name already", path=ckpt.prefix, tensor=name)
    big_endian = ckpt.files.big_endian
    graph, streams[0].graph_notes = _graph_of(ckpt, target, kept, states.keys())
    texts = {} if graph is not None else _options_of(ckpt)
    kept = [name for name in kept if name not in texts]
    with new_checkpoint(outputs, target, big_endian=big_endian, graph=graph) as writer:
        for name in sorted(
            [*kept, *texts, *states], key=lambda name: name.encode("utf-8", "surrogateescape")
        ):
            if name in states:
                stream, number = states[name]
                is_kept = name in gone and stream.layout is stream.state.layout
                shape = ckpt.variables[name].shape if is_kept else None  # rows in a vector, too
                add_state(writer, stream, number, name, shape, big_endian=big_endian)
            elif name in texts:
                add_text(writer, name, texts[name])
            else:
                ckpt.files.copy(name, writer)
                streams[0].on_part(ckpt.variables[name].nbytes or 0)


def _options_of(ckpt: LSTMCheckpoint) -> dict[str, str]:
    """Return the tensor with the options that only the graph of a checkpoint shows, by its name."""
    from lstmstate.model import recorded_options

    if ckpt.graph is None:
        return {}  # a tensor with options is copied
    known = recorded_options.known(cell.info for cell in ckpt.cells.values())
    return {recorded_options.NAME: recorded_options.line(known)} if known else {}


def _graph_of(
    ckpt: LSTMCheckpoint, target: str, kept: Collection[str], states: Collection[str]
) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the graph to write next to a rewritten checkpoint, and notes on it.

    The variables of the cells keep their names, so that the graph gives their options as before;
    only its Saver may ask for the state under other names.

    Args:
        kept: the variables that are copied.
        states: the new variables of the states.
    """
    source = ckpt.files.location.graph
    if source is None:
        return None, ()
    lost = "the graph is not copied, and the options of the cells are lost"
    if ckpt.graph is not None:
        lost = "the graph is not copied; of it, only the options of the cells are recorded"
    try:
        found = ckpt.files.meta_graph()
        fits = ckpt.files.location.has_own_graph or ckpt.graph is not None
    except LstmstateError as error:
        return None, (f"{error}; {lost}",)
    if found is None or not fits:
        return None, (f"{printable(source)}: {lost}",)
    keys: set[str] = set()
    with suppress(LstmstateError):  # a graph that cannot be followed has no known Saver
        graph = ckpt.graph
        keys = {key.removesuffix(":0") for key, _ in graph.saved_names()} if graph else keys
    missing = sorted(keys.difference(kept, states))
    if not missing or keys.issuperset(states):
        return found, ()
    meta = printable(f"{target.removesuffix('.index')}.meta")
    return found, (
        f"{meta} is the graph of {printable(ckpt.prefix)}: the cells keep their options, but its "
        f"Saver restores {first_of(missing, _LISTED)}",
    )


def _names(stream: StateStream) -> tuple[str, ...]:
    """Return the names of the arrays of a state in a checkpoint.

    They stay if the layout stays. A state as one array has the name of the state if that names one;
    else the cell is in it.
    """
    file, cells = stream.state.file, stream.structure.cells
    if stream.layout is stream.state.layout and len(stream.plans) == len(file.variables):
        return file.variables
    found = state_names.parse(file.name)
    owner = f"/{cells[0].name}" if len(cells) == 1 and cells[0].name else ""
    is_named = found is not None and found.is_plain
    whole = file.name if is_named else f"{file.name}{owner}/state"
    return tuple(
        whole if plan.name == "state" else f"{file.name}/{plan.name}" for plan in stream.plans
    )


def output_name(
    path: str, place: str | None, layout: Layout, kind: StateKind, *, folder: str | None = None
) -> str:
    """Return the default name of an output: `NAME.tuple.npz`, `NAME.flat.npy`, …

    >>> from lstmstate.state.formats.registry import BY_KEY
    >>> output_name("runs/last.tuple.npz", None, LAYOUTS["flat"], BY_KEY["npy"])
    'runs/last.flat.npy'
    """
    stem = stem_of(path)
    if place:
        stem += "." + re.sub(r"[^\w.-]+", "_", place.strip("/"))
    name = f"{stem}.{layout.name}.{kind.key}"
    return os.path.join(folder, os.path.basename(name)) if folder is not None else name


def stem_of(path: str) -> str:
    """Return a path without the endings for the kind of file and the layout.

    >>> stem_of("runs/last.tuple.npz"), stem_of("model.ckpt-7.index")
    ('runs/last', 'model.ckpt-7')
    """
    stem = path.rstrip("/")
    kind = kind_of_name(stem)
    if kind is not None and kind.key != "ckpt":
        stem = os.path.splitext(stem)[0]
    return _LAYOUT_ENDING.sub("", stem.removesuffix(".index"))
