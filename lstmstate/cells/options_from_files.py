"""The options of a cell, from the evidence in its files.

The strongest evidence comes first: unexplained operations of the graph that act on an option,
values that the graph shows, those that the checkpoint records, facts and defaults of the family.
For a run, `engines.run_options` puts the values that a user passes before these, and assumptions
after them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lstmstate.cells.cell import OPTIONS, UNKNOWN, Option
from lstmstate.cells.family import Family


def take_strongest(*evidence: Option | None) -> Option:
    """Return the strongest evidence for an option: the first that is not None.

    UNKNOWN is evidence too: for a value that is there and cannot be read, so that weaker evidence,
    such as a default, does not count.

    >>> take_strongest(None, Option(2.0, "graph"), Option(1.0, "default"))
    Option(value=2.0, source='graph')
    """
    return next((one for one in evidence if one is not None), UNKNOWN)


def options_from_files(
    family: Family,
    shown: Mapping[str, Option] | None = None,
    unread: Collection[str] = (),
    recorded: Mapping[str, Option] | None = None,
) -> dict[str, Option]:
    """Return the options of a cell.

    Args:
        shown: those that the graph shows, by name.
        unread: the names of those that the graph has in a way that is not read.
        recorded: those that the checkpoint records, by name.
    """
    rows = {name: family.option(name) for name in OPTIONS}
    return {
        name: take_strongest(
            UNKNOWN if name in unread else None,
            _from_graph(name, (shown or {}).get(name), row),
            _recorded((recorded or {}).get(name), row),
            row,
        )
        for name, row in rows.items()
    }


def _from_graph(name: str, shown: Option | None, row: Option) -> Option | None:
    """Return an option that the graph shows, None if it adds nothing to the family's row."""
    if name == "recurrent_activation" and row.source == "family":
        return None if shown in (UNKNOWN, Option(row.value, "graph")) else shown
    # No default replaces a forget bias that is fed, or a function without a name.
    is_there = name in ("forget_bias", "recurrent_activation")
    return None if shown == UNKNOWN and not is_there else shown


def _recorded(found: Option | None, row: Option) -> Option | None:
    """Return an option that the checkpoint records, None if it adds nothing to the family's row."""
    is_known = found is not None and row == Option(found.value, "family")
    return None if is_known else found
