"""Several paths in one call: results, failures, the exit code and the document."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator, Sequence

from lstmstate.cli import DONE, NO, SOME_FAILED, UNUSABLE, report_line
from lstmstate.cli.command import Json
from lstmstate.cli.report.flags import with_flags
from lstmstate.errors import LstmstateError, each
from lstmstate.type_names import Any, TypeVar

_Result = TypeVar("_Result")

_MANY = 1000  # items of a list that have a line each
_ENCODER = json.JSONEncoder(allow_nan=False)


class Batch:
    """The paths of one call, and the errors in some of them."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self.is_single = len(paths) == 1
        self._failed: list[tuple[str, str]] = []

    def run(self, work: Callable[[str], _Result]) -> list[_Result]:
        """Return the result for each path that can be used; a single path raises its error."""
        results = []
        for number, path in enumerate(self._paths):
            if number:
                gc.enable()  # from here on the process may be long
            try:
                results.append(work(path))
            except (LstmstateError, MemoryError) as error:
                if self.is_single:
                    raise
                if isinstance(error, MemoryError):
                    error = LstmstateError("there is not enough memory for this", path=path)
                self.fail(path, each(error))
        return results

    def fail(self, path: str, errors: Sequence[LstmstateError]) -> None:
        """Print the errors in a path, and keep them for the exit code and the document."""
        for error in errors:
            self._failed.append((path, str(error)))
            report_line(f"error: {error}")

    def exit_code(self, *, answer: bool = True) -> int:
        """Return the exit code; `answer` is whether the command's answer is yes."""
        if self._failed:
            return SOME_FAILED if len(self._paths) > 1 else UNUSABLE
        return DONE if answer else NO

    @property
    def failed(self) -> list[Json]:
        """The errors, as documents have them."""
        return [{"path": path, "error": with_flags(error)} for path, error in self._failed]

    def print_documents(self, schema: str, documents: Sequence[Json], **more: object) -> None:
        """Print the document of the single path, or that of all; `more` is added to the latter."""
        several = {"kind": "batch", **more, "results": documents, "failed": self.failed}
        print_document(schema, documents[0] if self.is_single else several)


def print_document(schema: str, document: Json) -> None:
    """Print one JSON document."""
    sys.stdout.writelines(_parts({"schema": schema, **document}))
    print()


def _parts(value: Any, margin: str = "\n") -> Iterator[str]:
    """Yield a document in parts, as they are made: indented, but for the items of a long list.

    The encoder of Python that indents takes ten times as long as the one that does not.
    """
    is_dict = isinstance(value, dict)
    if not value or not (is_dict or isinstance(value, list | tuple)):
        yield _ENCODER.encode(value)
        return
    start, end = "{}" if is_dict else "[]"
    is_long = not is_dict and len(value) > _MANY
    for item in value:
        if is_dict:
            yield f"{start}{margin}  {_ENCODER.encode(item)}: "
            yield from _parts(value[item], f"{margin}  ")
        elif is_long:
            yield f"{start}{margin}  {_ENCODER.encode(item)}"
        else:
            yield f"{start}{margin}  "
            yield from _parts(item, f"{margin}  ")
        start = ","
    yield f"{margin}{end}"
