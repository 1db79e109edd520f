"""The order of c and h: a wrong choice is caught by values, and stated where none shows it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from commands import Shell, notes

from lstmstate import LSTMState
from lstmstate.state.layouts import LAYOUTS, to_arrays


def _unnamed(path: Path, layout: str, c_scale: float) -> tuple[Path, str]:
    """Save a cell and its layout's arrays without names; return the file and a wrong layout.

    c has values up to `c_scale`, and m up to 1.
    """
    lead = () if layout == "thinc" else (3,)
    c, m = (np.linspace(-1, 1, math.prod(lead) * 4, dtype="f4").reshape(*lead, 4) for _ in "cm")
    arrays = to_arrays(LAYOUTS[layout], LSTMState(c * c_scale, -m))
    target = path / ("s.npy" if len(arrays) == 1 else "s.npz")
    np.save(target, *arrays.values()) if len(arrays) == 1 else np.savez(target, *arrays.values())
    own = LAYOUTS[layout]
    others = (one.name for one in LAYOUTS.values() if one.h_first != own.h_first)
    halves = "keras" if not own.h_first else "tuple"
    wrong = own.reversed.name if own.reversed else halves if own.in_halves else next(others)
    return target, wrong


ORDERED = [name for name, layout in LAYOUTS.items() if not layout.is_flat]


@pytest.mark.parametrize("layout", [name for name in ORDERED if name != "thinc"])
def test_a_wrong_order_is_caught(shell: Shell, tmp_path: Path, layout: str) -> None:
    """The h of a cell without a projection is never beyond 1; its c is, here."""
    path, wrong = _unnamed(tmp_path, layout, 3.0)
    out = ("-o", tmp_path / "o.npz", "--force")
    assert shell("convert", path, "--from", layout, "--to-tuple", *out, "--strict").code == 0
    done = shell("convert", path, "--from", wrong, "--to-tuple", *out, code=0)
    assert "c and m look swapped: m reaches from -3 to 3" in notes(done)[-1]
    assert shell("convert", path, "--from", wrong, "--to-tuple", *out, "--strict").code == 3


@pytest.mark.parametrize("layout", ORDERED)
def test_an_order_that_no_value_shows_is_noted(shell: Shell, tmp_path: Path, layout: str) -> None:
    path, wrong = _unnamed(tmp_path, layout, 0.9)
    for name in (layout, *([wrong] if layout != "thinc" else [])):
        done = shell(
            "convert", path, "--from", name, "--to-tuple", "-o", tmp_path / "o.npz", "--force"
        )
        (note,) = notes(done)
        assert note.startswith(f"the values fit either order of c and h: they are read as {name} (")
        other = LAYOUTS[name].reversed
        assert other is None or note.endswith(f", and {other.name} is the other one")


@pytest.mark.parametrize("layout", ORDERED)
def test_an_order_that_names_or_the_file_show_is_not_noted(
    shell: Shell, tmp_path: Path, layout: str
) -> None:
    path, _ = _unnamed(tmp_path, layout, 0.9)
    whole = tmp_path / "whole.npz"
    assert shell("convert", path, "--from", layout, "--to", layout, "-o", whole).code == 0
    assert notes(shell("convert", whole, "--to-flat", "-o", tmp_path / "flat.npy")) == []
    with np.load(whole) as found:
        arrays = {name: found[name] for name in found if name != "lstmstate"}
    if LAYOUTS[layout].in_halves:
        np.savez(tmp_path / "named.npz", **arrays)
        named = ("convert", tmp_path / "named.npz", "--from", layout)
        assert notes(shell(*named, "--to-flat", "-o", tmp_path / "named.npy")) == []
