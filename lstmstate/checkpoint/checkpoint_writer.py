"""The files of a new checkpoint: data, graph, index, and the `checkpoint` file next to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lstmstate.checkpoint.locate import STATE_FILE
from lstmstate.checkpoint.tensor_bundle_writer import BundleWriter
from lstmstate.errors import ExistingFileError
from lstmstate.files.atomic import Outputs

_INDEX = ".index"
_META = ".meta"


@contextmanager
def new_checkpoint(
    outputs: Outputs, target: str, *, big_endian: bool = False, graph: bytes | None = None
) -> Iterator[BundleWriter]:
    """Yield the writer of a new V2 checkpoint; its files appear with the other outputs.

    The index comes after the data, since it makes them a checkpoint. A `checkpoint` file
    that exists is left unchanged, since it names other checkpoints.

    Args:
        target: the prefix, or the path of the index.
        graph: a MetaGraphDef for the `.meta` file.
    """
    prefix = target.removesuffix(_INDEX)
    folder, name = os.path.split(prefix)
    if graph is None and os.path.lexists(f"{prefix}{_META}"):
        raise ExistingFileError(
            "this graph exists already, and readers would take it for that of the new checkpoint",
            path=f"{prefix}{_META}",
            advice="remove it, or give the output another name",
        )
    with outputs.open(f"{prefix}.data-00000-of-00001") as data:
        writer = BundleWriter(data, big_endian=big_endian)
        yield writer
    if graph is not None:
        with outputs.open(f"{prefix}{_META}") as meta:
            meta.write(graph)
    with outputs.open(f"{prefix}{_INDEX}") as index:
        writer.write_index(index)
    state_file = os.path.join(folder, STATE_FILE)
    if not os.path.lexists(state_file):
        with outputs.open(state_file, optional=True) as file:
            file.write(_state_of(name))


def _state_of(name: str) -> bytes:
    """Return the text of a `checkpoint` file (a CheckpointState) that names one prefix."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return (f'model_checkpoint_path: "{quoted}"\nall_model_checkpoint_paths: "{quoted}"\n').encode(
        "utf-8", "surrogateescape"
    )
