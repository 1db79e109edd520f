"""The lines of a program that read weights from a file."""

from __future__ import annotations

import os

_NPZ = """\
with np.load({path!r}) as file:
    weights = dict(file)
"""
_HDF5 = """\
import h5py

weights = {{}}
with h5py.File({path!r}) as file:
    file.visit(lambda name: weights.update({{name: file[name]}}))
    weights = {{n: w[()] for n, w in weights.items() if isinstance(w, h5py.Dataset)}}
"""


def reading(path: str) -> str:
    """Return the lines that put the arrays of a file into `weights`, by name."""
    is_npz = os.path.splitext(path)[1].lower() == ".npz"
    return (_NPZ if is_npz else _HDF5).format(path=path)
