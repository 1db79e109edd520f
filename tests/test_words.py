"""Plain English: a list of riddles that stay out, and modules that begin with a noun."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
# A phrase, and an example of it. None of them occurs in code, messages or documentation.
PATTERNS = {
    r"\b(un)?(tell|tells|told|telling)\b": "nothing tells the width",
    r"\b(say|says|said)\b": "the file says flat",
    r"\b(lie|lies|lay|stand|stands|stood|live|lives)\b": "the array lies in the file",
    r"\bbeside\b": "the graph beside it",
    r"\b(of|in|from|to|for|with) (which|whom)\b": "cells of which one is reversed",
    r"\b(holds?) (true|good)\b|\bdo(es)? not hold\b": "the checksum does not hold",
    r"\b[Ww]hat (is|are|was)\b(?![^.]*\?)": "what is read",
    r"\b(whoever|whatever|whichever|wherever)\b": "whatever the path is",
    r"\b(ends?) with [0-9]": "it ends with 3",
    r"\b(comes?|came) to (be|exist)\b": "it has come to be",
    r"\b(speaks?|spoke|spoken)\b": "no graph speaks of it",
    r"(?<![Tt]here )\b(is|are) no\s+[a-z]": "this is no state",
}
# A module's first line names a thing: it does not begin with one of these.
QUESTIONS = ("What", "Where", "How", "Whether", "Who", "Which")

SOURCES = sorted((PROJECT / "lstmstate").rglob("*.py"))
_MORE = ("README.md", "CHANGELOG.md", "SECURITY.md", "sample_checkpoints/README.md")
PAGES = sorted([*(PROJECT / page for page in _MORE), *(PROJECT / "docs").glob("*.md")])


def prose(path: Path) -> Iterator[str]:
    """Yield comments, docstrings and messages of a module, or a page without its code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield re.sub(r"```.*?```|~~~.*?~~~|`[^`\n]*`", "", text, flags=re.DOTALL)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


def found_in(path: Path) -> list[str]:
    """Return the phrases of a file that have to be rewritten, with a few words around each."""
    return [
        text[max(0, match.start() - 40) : match.end() + 40]
        for text in prose(path)
        for pattern in PATTERNS
        for match in re.finditer(pattern, text)
    ]


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=name_of)
def test_text_is_plain(path: Path) -> None:
    assert found_in(path) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_the_first_line_of_a_module_names_a_thing(path: Path) -> None:
    line = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
    assert line, "a docstring is missing"
    assert line.split()[0] not in QUESTIONS


@pytest.mark.parametrize(("pattern", "example"), PATTERNS.items())
def test_each_phrase_is_found(tmp_path: Path, pattern: str, example: str) -> None:
    for name, text in (
        ("a.py", f"x = 1  # {example}\n"),
        ("b.py", f'"""A thing.\n\n{example}\n"""\n'),
        ("c.md", f"{example}\n"),
    ):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        assert found_in(path), name
    code = tmp_path / "d.md"
    code.write_text(f"```\n{example}\n```\n`{example}`\n", encoding="utf-8")
    assert not found_in(code)
