"""The parts of an installation: versions, the compiled steps, and packages."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

from lstmstate.engines import ENGINES
from lstmstate.engines.compiled_cell import find_extension
from lstmstate.named_tuple import NamedTuple
from lstmstate.version import __version__

_REQUIRED = ("numpy", "h5py", "click", "rich", "google_crc32c", "threadpoolctl")
# Packages by the extra that installs them; those of engines are in `ENGINES`.
_OTHER_EXTRAS = {"snappy": ("cramjam",), "onnx": ("onnx", "onnxruntime")}
# Packages that only the check of an export imports, and their names for pip.
_OF_EXPORTS = {
    "torch": "torch",
    "keras": "keras",
    "jax": "jax",
    "flax": "flax",
    "haiku": "dm-haiku",
    "equinox": "equinox",
}


class Package(NamedTuple):
    """A package that is imported by some work.

    Attributes:
        need: "required", "extra" or "export check".
        extra: the extra of pip that installs it, None if it has none.
        version: None if it is not known.
    """

    name: str
    need: str
    extra: str | None
    installed: bool
    version: str | None


class Installation(NamedTuple):
    """The parts of an installation.

    Attributes:
        reason: why NumPy runs all cells; "" if the compiled steps are used.
        file: that of the compiled steps, None if they are not used.
        vectors: (name, bytes) of each kind that the processor has, the widest first, which is used;
            None without the compiled steps, which look for them.
    """

    version: str
    python: str
    platform: str
    reason: str
    file: str | None
    vectors: tuple[tuple[str, int], ...] | None
    packages: tuple[Package, ...]


def examine() -> Installation:
    """Return the parts of this installation, without the import of a package."""
    module, reason = find_extension()
    return Installation(
        __version__,
        f"{platform.python_implementation()} {platform.python_version()}",
        platform.platform(),
        reason,
        None if reason else module.__file__,
        None if reason else module.vectors(),
        tuple(_packages()),
    )


def _packages() -> Iterator[Package]:
    for name in _REQUIRED:
        yield _find_package(name, "required")
    extras = {one.extra: one.packages for one in ENGINES.values() if one.extra is not None}
    for extra, names in (_OTHER_EXTRAS | extras).items():
        for name in names:
            yield _find_package(name, "extra", extra)
    for name in _OF_EXPORTS:
        yield _find_package(name, "export check")


def _find_package(name: str, need: str, extra: str | None = None) -> Package:
    if find_spec(name) is None:
        return Package(name, need, extra, False, None)
    try:
        version = metadata.version(_OF_EXPORTS.get(name, name))
    except metadata.PackageNotFoundError:  # such as tensorflow, of a package tensorflow-cpu
        version = None
    return Package(name, need, extra, True, version)
