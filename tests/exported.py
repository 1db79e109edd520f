"""Networks exported into files, and run there by their own library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lstmstate import engines
from lstmstate.engines.canonical_network import Network
from lstmstate.exports.targets import target_of
from lstmstate.files.atomic import Outputs
from lstmstate.model.loaded_network import Loaded
from lstmstate.operations.export import Export, export_loaded


def export(network: Network, to: str, path: Path, *, force: bool = False) -> Export:
    """Write a network for a target, and return the export."""
    route: Any = None
    loaded = Loaded(route, network, engines.load("numpy", network), (), "numpy")
    made = export_loaded(loaded, target_of(to), "made by a test", str(path))
    with Outputs(force=force) as outputs:
        made.write(outputs)
    return made


def difference(network: Network, to: str, path: Path, seed: int = 0) -> float:
    """Return the largest difference of an exported network, run by its library, from ours."""
    return export(network, to, path).check(seed)
