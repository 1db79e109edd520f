"""The JSON Schemas of the documents, and a check of a document against its schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"
_TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "object": dict,
    "array": list,
}


@cache
def maker() -> ModuleType:
    """Return the script that makes the schemas."""
    spec = spec_from_file_location("make_schemas", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _schema(command: str) -> Any:
    return json.loads((FOLDER / f"{command}.json").read_text(encoding="utf-8"))


def problems(document: Any) -> list[str]:
    """Return where a document differs from the schema that it names; fields must be in it."""
    command = document["schema"].removeprefix("lstmstate.").removesuffix("/1")
    return list(_problems(document, _schema(command), _schema(command), "$"))


def _problems(value: Any, schema: Any, root: Any, place: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        found = [list(_problems(value, one, root, place)) for one in schema["anyOf"]]
        if all(found):
            # The record that was meant has its problem deepest.
            yield from max(found, key=lambda one: len(one[0].partition(":")[0]))
        return
    if "const" in schema and value != schema["const"]:
        yield f"{place}: expected {schema['const']!r}, got {value!r}"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(
        isinstance(value, _TYPES[kind]) and (kind == "boolean") <= isinstance(value, bool)
        for kind in kinds
        if not (isinstance(value, bool) and kind in ("integer", "number"))
    ):
        yield f"{place}: expected {' or '.join(kinds)}, got {value!r}"
        return
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _problems(item, schema.get("items", {}), root, f"{place}[{number}]")
    elif isinstance(value, dict):
        yield from _of_fields(value, schema, root, place)


def _of_fields(value: Any, schema: Any, root: Any, place: str) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", []):
        if name not in value:
            yield f"{place}.{name}: missing"
    for name, part in value.items():
        inner = properties.get(name, others)
        if inner is None:
            yield f"{place}.{name}: not in the schema"
        else:
            yield from _problems(part, inner, root, f"{place}.{name}")
