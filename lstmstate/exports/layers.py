"""The layers of a network, as libraries build them: each in one direction, or in both."""

from __future__ import annotations

from lstmstate.engines.canonical_network import CanonicalCell, Network, Stage
from lstmstate.errors import UnsupportedError

Layer = tuple[CanonicalCell, ...]  # the forward cell, and the backward one


def split_stages(network: Network) -> list[Stage]:
    """Return the stages, with a stage of its own for each cell of a single chain."""
    found: list[Stage] = []
    for stage in network.stages:
        found += [stage] if len(stage) > 1 else [((cell,),) for cell in stage[0]]
    return found


def layers_of(network: Network, program: str) -> list[Layer]:
    """Return the layers of a network that is built layer by layer, of one width.

    Raises:
        UnsupportedError: the program has no such network.
    """
    stages = split_stages(network)
    refuse_two_stacks(stages, program)
    if len({len(stage) for stage in stages}) > 1:
        raise UnsupportedError(
            f"{program} runs all layers in one direction, or all in both",
            tensor=network.first.name,
            advice="export its cells one by one: `cell='NAME'`",
        )
    return [tuple(chain[0] for chain in stage) for stage in stages]


def refuse_two_stacks(stages: list[Stage], program: str) -> None:
    """Refuse two stacks, one of each direction."""
    for stage in stages:
        if any(len(chain) > 1 for chain in stage):
            raise UnsupportedError(
                f"{program} joins the two directions after each layer, and this network after all",
                tensor=stage[0][0].name,
                advice="export the stack of each direction by itself: `stack='NAME'`",
            )


def refuse_unlike_widths(layers: list[Layer], program: str) -> None:
    """Refuse cells of several widths of c or m, in a layer or in all."""
    groups = [(layer, "the two directions of a layer") for layer in layers]
    for cells, words in [*groups, (tuple(layer[0] for layer in layers), "all layers")]:
        widths = list(dict.fromkeys(cell.widths for cell in cells))
        if len(widths) > 1:
            found = " and ".join(f"{c}:{m}" for c, m in widths[:2])
            raise UnsupportedError(
                f"in {program} {words} have one width of c and of m, and these have {found}",
                tensor=cells[0].name,
                advice="export the cells one by one: `cell='NAME'`",
            )


def only_cell(network: Network, program: str) -> CanonicalCell:
    """Return the cell of a network of one.

    Raises:
        UnsupportedError: there are more.
    """
    if len(network.cells) > 1:
        raise UnsupportedError(
            f"{program} is one cell, and these are {len(network.cells)}",
            tensor=network.first.name,
            advice="export the cells one by one: `cell='NAME'`",
        )
    return network.first
