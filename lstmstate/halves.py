"""One flat state as two files, and back: what `split` and `concat` do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lstmstate.convert import Converted, How, begin, kind_to_write
from lstmstate.errors import LstmstateError
from lstmstate.output import Outputs
from lstmstate.sources import Source, open_array
from lstmstate.state.metadata import Metadata
from lstmstate.state.model import CellShape
from lstmstate.state.npy import write_npys
from lstmstate.state.reading import Cells, Wanted, read_state
from lstmstate.state.stored import StateFile, StoredArray

_HALVES = ("c", "m")


def write_halves(source: Source, how: How, outputs: Outputs, targets: Sequence[str]) -> Converted:
    """Write c and m of each cell into npy files of their own, reading the source once.

    Raises:
        LstmstateError: there are more or fewer files than halves, or one is no npy.
    """
    done = begin(source, how)
    cells = done.watch.structure.cells
    if len(targets) != 2 * len(cells):
        raise LstmstateError(
            f"the state has {len(cells)} cells and there are {len(targets)} files for their halves",
            path=source.reading.file.path,
            advice="say -o C M once for each cell",
        )
    for target in targets:
        if kind_to_write(target, None).key != "npy":
            raise LstmstateError(
                "split writes .npy files", path=target, advice="use convert --to-tuple for others"
            )
    name = source.reading.file.path.rpartition("/")[2]
    told = [
        Metadata("tuple", (cell,), False, part=half, source=name)
        for cell in cells
        for half in _HALVES
    ]
    with outputs.open_all(targets) as files:
        write_npys(files, done.flow, told)
    return done


def read_halves(paths: Sequence[str], wanted: Wanted) -> Source:
    """Return the state whose halves lie in files: c, m, c, m, …

    Raises:
        LstmstateError: a file says that it holds the other half, or they do not fit together.
    """
    arrays: list[StoredArray] = []
    cells: list[CellShape | None] = []
    for number, path in enumerate(paths):
        array, told = open_array(path)
        half = _HALVES[number % 2]
        if told is not None and told.part not in (None, half):
            raise LstmstateError(
                f"this is {told.part}, and stands where {half} belongs",
                path=path,
                advice="the order is c, m, c, m, …",
            )
        array.name = f"cell_{number // 2}/{half}" if len(paths) > 2 else half
        arrays.append(array)
        cells.append(told.cells[0] if told is not None and told.part else None)
    known = [cell for cell in cells[::2] if cell is not None]
    if len(known) == len(paths) // 2 and not wanted.cells and not wanted.each:
        wanted = wanted._replace(cells=(Cells(tuple(known), len(known) > 1),), source="the files")
    file = StateFile(paths[0], arrays)
    return Source(read_state(file, wanted), inputs=tuple(_inputs(paths)))


def _inputs(paths: Iterable[str]) -> Iterable[str]:
    return (path for path in paths if path != "-")
