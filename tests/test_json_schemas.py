"""The JSON Schemas in docs/schemas: up to date, and strict enough to find a wrong document.

`Shell.json` checks every document of every test against them.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from commands import PROJECT, SAMPLES, SUNSPOTS, Shell
from schemas import FOLDER, maker, problems

from lstmstate.cli import COMMANDS
from lstmstate.cli.batch import print_document


def test_the_files_are_those_that_the_script_writes() -> None:
    texts = maker().texts()
    assert {path: path.read_text(encoding="utf-8") for path in texts} == texts
    assert sorted(FOLDER.glob("*.json")) == sorted(texts)


def test_every_command_has_a_schema_that_the_page_links() -> None:
    assert set(maker().DOCUMENTS) == set(COMMANDS)
    page = (PROJECT / "docs" / "json.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"(schemas/{command}.json)" in page


def test_every_record_of_the_table_is_used() -> None:
    used = set()
    for path in FOLDER.glob("*.json"):
        used |= set(json.loads(path.read_text(encoding="utf-8"))["$defs"])
    assert used == set(maker().records())


def test_long_lists_have_a_line_an_item_and_the_rest_is_indented(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short: dict[str, Any] = {"a": [1, {"é\n": None, "e": [], "d": {}}], "b": (1.5, [True]), "c": ""}
    print_document("x/1", short)
    assert capsys.readouterr().out == json.dumps({"schema": "x/1", **short}, indent=2) + "\n"
    long = {"results": [{"many": [{"number": k, "of": [k, {}]} for k in range(1001)]}]}
    print_document("x/1", long)
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"schema": "x/1", **long}
    assert printed.splitlines()[5:7] == [
        '        {"number": 0, "of": [0, {}]},',
        '        {"number": 1, "of": [1, {}]},',
    ]
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_document("x/1", {"a": float("nan")})


@pytest.fixture
def document(shell: Shell) -> Any:
    return shell.json("inspect", SUNSPOTS, SAMPLES / "peephole_flat", "--stats", "--verify")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("kind",), "batches"),
        (("failed",), None),
        (("failed",), [{"path": "x"}]),
        (("results", 0, "cells", 0, "num_units"), "24"),
        (("results", 0, "cells", 0, "num_units"), True),
        (("results", 0, "cells", 0, "peepholes"), 0),
        (("results", 0, "cells", 0, "forget_bias"), 1.0),
        (("results", 0, "cells", 0, "forget_bias", "source"), "rumour"),
        (("results", 0, "cells", 0, "direction"), "sideways"),
        (("results", 0, "cells", 0, "new field"), 1),
        (("results", 0, "cells", 0, "stats", 0, "min"), "inf"),
        (("results", 1, "states", 0, "shape"), [4, 1.5]),
        (("results", 1, "variables", 0, "bytes"), []),
    ],
)
def test_a_wrong_document_is_found(document: Any, place: tuple[Any, ...], value: Any) -> None:
    assert problems(document) == []
    wrong = copy.deepcopy(document)
    *path, last = place
    part = wrong
    for step in path:
        part = part[step]
    part[last] = value
    assert problems(wrong) != []


def test_a_missing_field_is_found(document: Any) -> None:
    del document["results"][0]["prefix"]
    assert problems(document) != []
