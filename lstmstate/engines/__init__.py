"""Steps of cells over data: canonical weights, and the engines that compute with them.

network = Network((((canonical_cell(cell, read, settled),),),))      one stage of one cell
ran = load("numpy", network).run(x, no_states(network, batch))   outputs, states
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lstmstate.arguments import refuse_unknown
from lstmstate.errors import MissingExtraError
from lstmstate.named_tuple import NamedTuple

if TYPE_CHECKING:
    from lstmstate.engines.canonical_network import Network, Runner


class Engine(NamedTuple):
    """An engine: its module has `check(network)` and `load(network) -> Runner`.

    Attributes:
        extra: the extra of pip that installs its packages, None if it needs none.
        packages: the packages that it imports.
    """

    module: str
    extra: str | None
    packages: tuple[str, ...] = ()


ENGINES = {
    "numpy": Engine("numpy_engine", None),
    "tensorflow": Engine("tensorflow_engine", "tensorflow", ("tensorflow", "tf_keras")),
}


def load(name: str, network: Network) -> Runner:
    """Make a network ready to run on an engine.

    Raises:
        MissingExtraError: its packages are not installed.
        UnsupportedError: it cannot run such a cell.
    """
    refuse_unknown("engine", name, ("auto", "graph", *ENGINES))
    engine = ENGINES[name]
    module = import_module(f"lstmstate.engines.{engine.module}")
    module.check(network)  # before anyone installs what would not help
    missing = [package for package in engine.packages if find_spec(package) is None]
    if missing:
        raise MissingExtraError(
            f"the engine {name} needs {' and '.join(missing)}, not installed here",
            advice=f"pip install 'lstmstate[{engine.extra}]'",
        )
    found: Runner = module.load(network)
    return found
