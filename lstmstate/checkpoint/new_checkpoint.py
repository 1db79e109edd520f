"""The files of a checkpoint that is to be: data, index, and the `checkpoint` file beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lstmstate.checkpoint.bundle_writer import BundleWriter
from lstmstate.output import Outputs

_INDEX = ".index"
STATE_FILE = "checkpoint"


@contextmanager
def new_checkpoint(
    outputs: Outputs, target: str, *, big_endian: bool = False
) -> Iterator[BundleWriter]:
    """Yield the writer of a new V2 checkpoint; its files appear with the other outputs.

    The index comes after the data: it is what makes a checkpoint of them. A `checkpoint` file
    that is there already is left as it is, since it speaks of others.

    Args:
        target: the prefix, or the path of the index.
    """
    prefix = target.removesuffix(_INDEX)
    folder, name = os.path.split(prefix)
    with outputs.open(f"{prefix}.data-00000-of-00001") as data:
        writer = BundleWriter(data, big_endian=big_endian)
        yield writer
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
