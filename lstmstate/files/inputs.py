"""The files that are read for some outputs: these never replace them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from lstmstate.errors import LstmstateError

Version = tuple[int, ...]


class Inputs:
    """Files by what they are, not by their names: a link to an input is one, too."""

    def __init__(self) -> None:
        self._versions: dict[str, Version] = {}  # of each path that was opened
        self._named: list[Callable[[], Iterable[str]]] = []  # lists of paths, not looked at yet
        self._identities: set[Version] = set()  # device and inode of all others
        self._paths: set[str] = set()  # of those named, whose file another process may replace

    def add(self, path: str, version: Version) -> None:
        """Note a file that was opened; between two times it must not have changed."""
        refuse_changed(path, self._versions.setdefault(path, version), version)
        self._identities.add(version[:2])

    def add_named(self, paths: Callable[[], Iterable[str]]) -> None:
        """Note files that may be read later, by a function that lists them when it is needed."""
        self._named.append(paths)

    def refuse(self, target: str) -> None:
        """Raise an error if an output would replace one of the files."""
        if not os.path.exists(target):
            return
        while self._named:  # each is looked at once: a batch has an output for each input
            paths = list(self._named[-1]())
            self._identities.update(_identities(paths))
            self._paths.update(map(os.path.realpath, paths))
            del self._named[-1]
        identity = version_of(os.stat(target))[:2]
        if identity in self._identities or os.path.realpath(target) in self._paths:
            raise LstmstateError(
                "this is the input, which is never written over",
                path=target,
                advice="give the output another name",
            )


_current: ContextVar[Inputs | None] = ContextVar("inputs", default=None)


@contextmanager
def gather() -> Iterator[Inputs]:
    """Gather the files that are read in this context; an inner context adds to the outer one."""
    inputs = _current.get() or Inputs()
    token = _current.set(inputs)
    try:
        yield inputs
    finally:
        _current.reset(token)


def note_opened(path: str, version: Version) -> None:
    """Note a file that was opened, if anybody gathers them; see `Inputs.add`."""
    inputs = _current.get()
    if inputs is not None:
        inputs.add(path, version)


def note_named(paths: Callable[[], Iterable[str]]) -> None:
    """Note files that may be read later; see `Inputs.add_named`."""
    inputs = _current.get()
    if inputs is not None:
        inputs.add_named(paths)


def version_of(status: os.stat_result) -> Version:
    """Return what changes if a file does: device and inode, size, and the times of changes."""
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return status.st_dev, status.st_ino, status.st_size, *times


def refuse_changed(path: str, before: Version, now: Version) -> None:
    """Raise an error if another process changed a file."""
    if before != now:
        advice = "try again when nothing writes to it"
        raise LstmstateError("it changed while it was read", path=path, advice=advice)


def _identities(paths: Iterable[str]) -> Iterator[Version]:
    """Yield device and inode of the paths that are there."""
    for path in paths:
        with suppress(OSError):
            yield version_of(os.stat(path))[:2]
