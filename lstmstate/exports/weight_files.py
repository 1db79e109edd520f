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
_SAFETENSORS = """\
from safetensors.numpy import load_file

weights = load_file({path!r})
"""
_TORCH = """\
import torch

weights = {{n: w.numpy() for n, w in torch.load({path!r}, weights_only=True).items()}}
"""
_BY_ENDING = {
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".hdf": _HDF5,
    ".safetensors": _SAFETENSORS,
    ".pt": _TORCH,
    ".pth": _TORCH,
}


def reading(path: str, imported: str = "") -> str:
    """Return the lines that put the arrays of a file into `weights`, by name.

    Args:
        imported: a module that the program has imported before.
    """
    lines = _BY_ENDING.get(os.path.splitext(path)[1].lower(), _NPZ).format(path=path)
    return lines.removeprefix(f"import {imported}\n\n")
