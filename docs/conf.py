"""Configuration of the documentation: `sphinx-build -W -n docs build/docs`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lstmstate

project = "lstmstate"
author = "the lstmstate authors"
copyright = f"{author}, Apache-2.0"  # noqa: A001 - Sphinx's name
release = version = lstmstate.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
nitpicky = True
# Types in signatures may be those of NumPy and of modules that are not public.
nitpick_ignore_regex = [("py:(class|exc)", ".*")]
smartquotes = False  # "--" begins an option
default_role = "code"  # help and docstrings put code between single backquotes

autodoc_member_order = "bysource"
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"lstmstate {release}"
html_show_sourcelink = False
man_pages = [("commands", "lstmstate", "LSTM states in TensorFlow 1.x checkpoints", author, 1)]


def skip_fields(
    app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of a NamedTuple: the docstring of its class describes them."""
    return True if type(member).__name__ == "_tuplegetter" else None


def keep_sentences(
    app: Sphinx, what: str, name: str, member: Any, options: Any, lines: list[str]
) -> None:
    """Keep the first sentence of a property whole: napoleon takes `X: y` for a type X."""
    if what == "property" and lines:
        lines[0] = lines[0].replace(": ", " – ")


def plain_help(app: Sphinx, context: Any, lines: list[str]) -> None:
    """Turn the help of a command into reStructuredText, where |x|, *x* and FILE:x mean nothing.

    Lines that Click keeps as they are (tables, examples) arrive as "| line", and become a literal
    block.
    """
    found: list[str] = []
    for line in lines:
        if line.lstrip().startswith(("..", ":")):  # of sphinx-click itself
            found.append(line)
        elif not line.startswith("| "):
            found.append(re.sub(r"[|*]|(?<=FILE):", r"\\\g<0>", line))
        elif line == "| Examples:":
            found += [line[2:], "", "::", ""]
        else:
            found += [] if is_kept(found) else ["", "::", ""]
            found.append(f"   {line[2:]}")
    lines[:] = found


def is_kept(found: list[str]) -> bool:
    """Return whether the last of some lines is in a literal block."""
    return found[-2:] == ["::", ""] or (found[-1:] != [] and found[-1].startswith("   "))


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-docstring", keep_sentences, priority=400)
    for part in ("description", "options", "epilog"):
        app.connect(f"sphinx-click-process-{part}", plain_help)
