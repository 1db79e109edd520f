"""A model whose weights are in a file next to it, written from views of them, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from lstmstate.engines.canonical_network import Array
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.formats.array_writer import parts_of, values


class DataFile:
    """The values of weights, one after another.

    Attributes:
        path: the file to write.
        nbytes: of all that was added.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.nbytes = 0
        self._places: list[tuple[int, Sequence[Array]]] = []

    def add(self, parts: Sequence[Array], aligned: int) -> int:
        """Add parts that follow on one another; return where they begin, a multiple of a number."""
        start = -(-self.nbytes // aligned) * aligned
        self._places.append((start, parts))
        self.nbytes = start + sum(part.nbytes for part in parts)
        return start

    def write(self, file: IO[bytes]) -> None:
        """Write all of them in C order."""
        for start, parts in self._places:
            file.write(bytes(start - file.tell()))
            for part in parts:
                for _, rows in parts_of(part):
                    file.write(values(rows))


class ModelFiles(NamedTuple):
    """A model.

    Attributes:
        model: its bytes.
        data: the file of its weights; None if they are in the model.
        useless: the file of the weights of the model that it replaces, if it has none.
    """

    model: bytes
    data: DataFile | None = None
    useless: str | None = None
