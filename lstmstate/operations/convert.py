"""Conversion of states between layouts and files, for `convert`, `split` and `concat`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lstmstate.cells import state_names
from lstmstate.errors import ArgumentError, LstmstateError, UnsupportedError, first_of, printable
from lstmstate.files.atomic import Outputs
from lstmstate.model.saved_states import Source
from lstmstate.records import NamedTuple
from lstmstate.state.formats.array_writer import ArrayWriter, is_written_in_rows, open_writer
from lstmstate.state.formats.checkpoint_arrays import add_state
from lstmstate.state.formats.chunked import wider_than
from lstmstate.state.formats.registry import StateKind, kind_of_name
from lstmstate.state.layouts import LAYOUTS, Layout
from lstmstate.state.metadata import Metadata
from lstmstate.state.stream import Flow, Watch, folder_of

if TYPE_CHECKING:
    import numpy as np

    from lstmstate.model.checkpoint import LSTMCheckpoint
    from lstmstate.model.saved_states import Group

# What `saved_states.groups` finds again; the others have no names of their own in a checkpoint.
_REWRITTEN = ("tuple", "flat", "layered", "keras")

_LISTED = 4  # variables that a note names

Progress = Callable[[int], object]

_LAYOUT_ENDING = re.compile(rf"\.(?:{'|'.join(LAYOUTS)})$")


DTYPES = ("float16", "float32", "float64")


class How(NamedTuple):
    """How states are to be written.

    Attributes:
        layout: the layout to come.
        dtype: the dtype to come, None for the one that is there.
        compress: whether files that can are compressed.
        on_part: is called with the bytes of each part.
    """

    layout: Layout
    dtype: np.dtype[np.generic] | None = None
    compress: bool = False
    on_part: Progress = lambda nbytes: None  # noqa: ARG005


class Converted(NamedTuple):
    """A state that was converted.

    Attributes:
        watch: the statistics of its values.
        flow: the arrays that were written.
        variables: the names of the arrays in a checkpoint that was written anew.
        graph_notes: lines for the user on the graph of the new checkpoint.
    """

    source: Source
    watch: Watch
    flow: Flow
    variables: tuple[str, ...] = ()
    graph_notes: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """Lines for the user on the source, its values, and the new names."""
        group, renamed = self.source.group, []
        if group is not None and self.variables not in ((), group.variables):
            both = (", ".join(map(printable, names)) for names in (group.variables, self.variables))
            renamed = ["the state has other names now: {1} (was {0})".format(*both)]
        values = [*self.watch.swapped(), *self.watch.notes()]
        return [*self.source.reading.notes, *renamed, *values, *self.graph_notes]


def begin(source: Source, how: How, target: str) -> Converted:
    """Return the flow of a state into a layout; nothing is read or written yet."""
    watch = Watch(source.reading, how.dtype)
    folder = folder_of(target)
    return Converted(
        source, watch, Flow(watch.structure, watch.parts, how.layout, how.on_part, folder)
    )


def write_states(
    sources: Sequence[Source], how: How, outputs: Outputs, target: str, kind: StateKind
) -> list[Converted]:
    """Write states into a file: one state, or those of a checkpoint into a new checkpoint.

    Raises:
        LstmstateError: the layout or the file cannot contain them, or cannot be written.
    """
    if kind.key == "ckpt" and sources[0].group is not None:
        _refuse_compression(how, target, kind)
        return rewrite_checkpoint(sources, how, outputs, target)
    if len(sources) > 1:
        raise LstmstateError(
            "several states do not go into one file", path=target, advice="give one `variable=...`"
        )
    return [write_state(sources[0], how, outputs, target, kind)]


def write_state(
    source: Source, how: How, outputs: Outputs, target: str, kind: StateKind
) -> Converted:
    """Write a state into a file of its own."""
    _refuse_compression(how, target, kind)
    done = begin(source, how, target)
    metadata = metadata_of(done, how)
    if not is_written_in_rows(kind):
        kind.code().write(outputs, target, done.flow, metadata)
        return done
    plans = done.flow.plans
    with open_writer(outputs, target, kind, plans, metadata, compress=how.compress) as writer:
        write_parts(done.flow, [writer] * len(plans))
    return done


def _refuse_compression(how: How, target: str, kind: StateKind) -> None:
    if how.compress and kind.key not in ("npz", "h5"):
        raise ArgumentError("only .npz and .h5 are compressed", path=target)


def write_parts(flow: Flow, writers: Sequence[ArrayWriter]) -> None:
    """Write all parts of a state, each of its arrays with a writer."""
    for start, _, arrays in flow.together():
        for writer, plan, array in zip(writers, flow.plans, arrays, strict=True):
            writer.write(plan.name, start, array)


def metadata_of(done: Converted, how: How) -> Metadata:
    """Return the metadata of a converted state."""
    reading = done.source.reading
    recorded = reading.file.metadata
    was = wider_than(reading.arrays) or (recorded.dtype if recorded else None)
    name = os.path.basename(reading.file.path)
    structure = done.watch.structure
    return Metadata(
        how.layout.name,
        structure.cells,
        structure.is_stack,
        dtype=was if how.dtype is None and was == "bfloat16" else None,
        source=name or None,
    )


def rewrite_checkpoint(
    sources: Sequence[Source], how: How, outputs: Outputs, target: str
) -> list[Converted]:
    """Write a checkpoint anew, with some of its states in another layout.

    Every other tensor is copied byte for byte, and the graph too: the cells keep their options. A
    state `NAME` becomes `NAME/c` and `NAME/m`, `NAME/<cell>/c` and `NAME/<cell>/m` in a stack, and
    the other way round; one that is in the layout already keeps its names.
    """
    from lstmstate.checkpoint.checkpoint_writer import new_checkpoint

    ckpt = sources[0].ckpt
    assert ckpt is not None
    if ckpt.files.object_based:
        raise UnsupportedError(
            "an object-based checkpoint names its variables in an object graph, which would no "
            "longer fit them",
            path=ckpt.prefix,
            advice="write the state into an .npz or .h5",
        )
    if how.layout.name not in _REWRITTEN:
        raise UnsupportedError(
            f"a state is kept in variables as {', '.join(_REWRITTEN)}, not as {how.layout.name}",
            path=target,
            advice="write it into an .npz or .h5",
        )
    ckpt.files.refuse_shared_bytes()
    gone: set[str] = set()
    states: dict[str, tuple[Converted, int]] = {}  # name → the state that it is an array of
    converted = []
    for done in (begin(source, how, target) for source in sources):
        group = done.source.group
        assert group is not None
        gone.update(group.variables)
        converted.append(done._replace(variables=_names(done, group)))
        for number, name in enumerate(converted[-1].variables):
            if name in states:
                raise LstmstateError("two of the states would have this name", tensor=name)
            states[name] = done, number
    kept = [name for name in ckpt.variables if name not in gone]
    for name in states:
        if name in kept:
            raise LstmstateError("a variable has this name already", path=ckpt.prefix, tensor=name)
    big_endian = ckpt.files.big_endian
    graph, notes = _graph_of(ckpt, target, kept, states.keys())
    converted[0] = converted[0]._replace(graph_notes=notes)
    with new_checkpoint(outputs, target, big_endian=big_endian, graph=graph) as writer:
        for name in sorted(
            [*kept, *states], key=lambda name: name.encode("utf-8", "surrogateescape")
        ):
            if name in states:
                done, number = states[name]
                dtype = metadata_of(done, how).dtype
                is_kept = name in gone and done.flow.layout is done.source.reading.layout
                shape = ckpt.variables[name].shape if is_kept else None  # rows in a vector, too
                add_state(writer, done.flow, number, name, dtype, shape, big_endian=big_endian)
            else:
                ckpt.files.copy(name, writer)
                how.on_part(ckpt.variables[name].nbytes or 0)
    return converted


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
    try:
        found = ckpt.files.meta_graph()
    except LstmstateError as error:
        return None, (f"{error}; {lost}",)
    if found is None:
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


def _names(done: Converted, group: Group) -> tuple[str, ...]:
    """Return the names of the arrays of a state in a checkpoint.

    They stay if the layout stays. A state as one array has the name of the state if that names one;
    else the cell is in it.
    """
    plans = done.flow.plans
    if done.flow.layout is done.source.reading.layout and len(plans) == len(group.variables):
        return group.variables
    found = state_names.parse(group.name)
    cells = done.source.reading.structure.cells
    owner = f"/{cells[0].name}" if len(cells) == 1 and cells[0].name else ""
    is_named = found is not None and found.is_plain
    whole = group.name if is_named else f"{group.name}{owner}/state"
    return tuple(whole if plan.name == "state" else f"{group.name}/{plan.name}" for plan in plans)


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
    name = f"{stem}.{layout.name}{kind.suffix}"
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
