"""The lines of a program that call a function for each cell, in the order of the data."""

from __future__ import annotations

from collections.abc import Sequence

from lstmstate.engines.canonical_network import Network
from lstmstate.state.layouts import scopes_of


def state_scopes(network: Network) -> list[str]:
    """Return the beginning of the names of each cell's state; nothing for a cell alone."""
    return named_scopes(network) if len(network.cells) > 1 else [""]


def named_scopes(network: Network) -> list[str]:
    """Return the beginning of the names of each cell's weights: its own name."""
    return [f"{scope}/" for scope in scopes_of([cell.name for cell in network.cells])]


def numbered_scopes(network: Network) -> list[str]:
    """Return `cell_0/`, `cell_1/`, … for the cells of a network; nothing for a cell alone."""
    count = len(network.cells)
    return [f"cell_{number}/" for number in range(count)] if count > 1 else [""]


def calls(
    network: Network,
    arguments: Sequence[str],
    *,
    ends: Sequence[str] = (),
    function: str = "run",
    join: str = "np",
) -> str:
    """Return the lines that make `outputs` of `x`: `outputs = run(ARGUMENTS, x)`.

    Args:
        arguments: those before the input, for each cell.
        ends: those at the end.
        join: the module whose `concatenate` joins both directions.
    """
    given = iter(zip(arguments, ends or [""] * len(arguments), strict=True))
    lines, before = [], "x"
    for stage in network.stages:
        if len(stage) == 1:
            for _ in stage[0]:
                first, last = next(given)
                lines.append(f"outputs = {function}({first}, {before}{last})")
                before = "outputs"
            continue
        chains = []
        for direction, chain in zip(("", ", reverse=True"), stage, strict=True):
            called = before
            for _ in chain:
                first, last = next(given)
                called = f"{function}({first}, {called}{direction}{last})"
            chains.append(called)
        lines.append(f"outputs = {join}.concatenate([{', '.join(chains)}], axis=-1)")
        before = "outputs"
    return "".join(f"{line}\n" for line in lines)
