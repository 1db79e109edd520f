"""JSON Schemas of the documents of the commands, from one table of their fields.

`python docs/schemas/make.py` writes them next to this file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# A line is `fields: type`. `T?` may be null, `[T]` is a list, `{T}` an object with any names, `'a'`
# that text, `A|B` either, `own_schema` the name of the schema; other names are records of this
# table. A field in brackets may be absent.
_TABLE = """
Option         value: scalar
               source: 'graph'|'checkpoint'|'family'|'default'|'option'|'unknown'
Documented     value: scalar
               words: str
Widths         c m flat: int
Columns        c m: [int]
CellColumns    cell: str
               c m: [int]
Unexplained    operation on node: str
               by: str?
Stats          role: str
               gate: str?
               size zeros nan inf: int
               min max mean std: float?
Cell           name family dtype gate_order: str
               alternatives notes: [str]
               era native_layout confirmed_reason: str?
               input_size num_units num_proj layer shard_axis bytes: int?
               parameters: int
               layer_norm: bool
               peepholes confirmed: bool?
               forget_bias cell_clip proj_clip activation recurrent_activation: Option
               state_is_tuple batch_size time_major: Option
               documented: {Documented}
               direction: 'forward'|'backward'|null
               state: Widths?
               flat_columns: Columns?
               variables: {str|[str]}
               number_of_groups: scalar
               unexplained: [Unexplained]
               (stats): [Stats]
Stack          name: str
               cells: [[str]]
               flat: int?
               flat_columns: [CellColumns]
               direction: 'forward'|'backward'|null
               paired_with: str?
SavedState     variable layout: str
               shape: [int]
               cell stack: str?
               source: 'graph'|'name'
               initial: bool
StateOnly      name: str
               state: Widths?
               flat_columns: Columns?
Unrecognised   cells: [StateOnly]
               refused: [str]
Variable       name dtype: str
               shape: [int]
               bytes: int?
               role cell: str?
               (full_name): str
Damaged        variable: str?
               error: str
Checkpoint     schema: 'lstmstate.inspect/1'
               kind: 'checkpoint'
               path prefix format: str
               object_based: bool
               tensorflow_version era meta graph_damage: str?
               data_files candidates notes: [str]
               cells: [Cell]
               stacks: [Stack]
               states: [SavedState]
               recurrences: [str]?
               unrecognised: Unrecognised?
               variables: [Variable]
               damaged: [Damaged]?
FileArray      name dtype: str
               shape: [int]
               bytes: int
               readings: [str]
Range          low high: float?
               nan inf: bool
Ranges         c m: Range
FileCell       name: str
               c m: int
               range: Ranges?
FileState      layout dtype: str
               layout_source: 'file'|'checkpoint'|'names'|'shape'
               stack: bool
               lead: [int]
               cells: [FileCell]
               notes: [str]
StateFile      schema: 'lstmstate.inspect/1'
               kind: 'state'|'outputs'|'weights'
               path format: str
               arrays: [FileArray]
               state: FileState?
               problem: str?
               (values): any
Array          name dtype: str
               shape: [int]
CellWidths     name: str
               c m: int
NewState       from to dtype: str
               variable: str?
               variables notes: [str]
               cells: [CellWidths]
               stack: bool
               lead: [int]
               arrays: [Array]
Converted      (schema): own_schema
               kind: 'converted'
               source output: str|[str]
               states: [NewState]
Layouts        schema: own_schema
               kind: 'layouts'
               layouts: [LayoutRow]
LayoutRow      name words program: str
               arrays: [str]
               h_first: bool
RunCell        name family: str
               input_size num_units num_proj: int?
               direction: 'forward'|'backward'|null
               forget_bias cell_clip proj_clip activation recurrent_activation peepholes: Option
Figures        shape: [int]
               min max mean std: float?
               not_finite: int
Outputs        shape: [int]
               dtype: str
               min max mean std: float?
               not_finite: int
EndState       cell: str
               c m: Figures
Start          source: 'zero'|'file'|'carried'
               path: str?
Run            (schema): 'lstmstate.run/1'
               kind: 'run'
               checkpoint network engine input: str
               confirmed: bool?
               cells: [RunCell]
               batch steps valid_steps: int
               outputs: Outputs
               state: [EndState]
               seconds: float
               steps_per_second: float?
               initial_state: Start
               output state_output: str?
Gap            of: str
               agrees: bool
               max_abs max_rel: float|'inf'|null
Trial          network data: str
               steps: int
               agrees: bool?
               tolerance: float?
               refused contradiction: str?
               differences: [Gap]
Failed         path error: str
Verified       schema: 'lstmstate.verify/1'
               checkpoint engine: str
               against: 'tensorflow'|'graph'
               agrees: bool
               trials: [Trial]
               failed: [Failed]
Tolerance      rtol atol: float
               exact: bool
Tensor         name words: str
               verdict: 'same'|'values'|'shape'|'dtype'|'only in A'|'only in B'
               shape: [int]
               differing: int
               max_abs max_rel: float|'inf'|null
               at: [int]?
Difference     schema: 'lstmstate.diff/1'
               kind: 'states'|'arrays'|'checkpoints'
               a b: str
               same: bool
               tolerance: Tolerance
               tensors: [Tensor]
Assertion      assertion: str
               holds: bool
               problems: [str]
               note: str?
Checked        schema: 'lstmstate.check/1'
               kind: 'checked'
               path: str
               holds: bool
               assertions: [Assertion]
CellsExported  schema: 'lstmstate.export/1'
               kind: 'cells'
               path output readme target: str
               files cells folded: [str]
               largest_difference: float|'inf'|null
               agrees: bool?
Exported       schema: 'lstmstate.export/1'
               kind: 'variables'
               path output target: str
               variables: [str]
Targets        schema: 'lstmstate.export/1'
               kind: 'targets'
               targets: [Target]
Target         name program state names takes: str
               files: [str]
               adds_to_f: float?
Vectors        name: str
               bytes: int
Package        name: str
               need: 'required'|'extra'|'export check'
               extra version: str?
               installed: bool
Installation   schema: 'lstmstate.doctor/1'
               kind: 'installation'
               version python platform: str
               compiled: bool
               reason file: str?
               vectors: [Vectors]?
               packages: [Package]
Batch          schema: str
               kind: 'batch'
               (holds): bool
               results: [result]
               failed: [Failed]
"""
DOCUMENTS = {
    "inspect": "Checkpoint|StateFile",
    "convert": "Converted|Layouts",
    "split": "Converted",
    "concat": "Converted",
    "state": "Converted",
    "run": "Run",
    "verify": "Verified",
    "diff": "Difference",
    "check": "Checked",
    "export": "CellsExported|Exported|Targets",
    "doctor": "Installation",
}
_SIMPLE = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "null": {"type": "null"},
    "any": {"description": "a number, text, or lists of them"},
    "scalar": {"type": ["number", "boolean", "string", "null"]},
}


def records() -> dict[str, list[tuple[str, str]]]:
    """Return (field, type) of each record."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in _TABLE.strip().splitlines():
        fields, _, kind = line.partition(": ")
        name = fields[:15].strip() or name
        found.setdefault(name, []).extend((field, kind) for field in fields[15:].split())
    return found


def _type(kind: str, command: str) -> Json:
    """Return the schema of a type."""
    ends = kind[0] + kind[-1]
    if kind == "own_schema":
        return {"const": f"lstmstate.{command}/1"}
    if kind == "result":
        return _type(DOCUMENTS[command], command)
    if ends == "[]" and "]|" not in kind:
        return {"type": "array", "items": _type(kind[1:-1], command)}
    if ends == "{}":
        return {"type": "object", "additionalProperties": _type(kind[1:-1], command)}
    if kind.endswith("?"):
        kind = f"{kind[:-1]}|null"
    if "|" in kind:
        return {"anyOf": [_type(one, command) for one in kind.split("|")]}
    constant = {"const": kind[1:-1]} if ends == "''" else None
    return constant or _SIMPLE.get(kind) or {"$ref": f"#/$defs/{kind}"}


def schema(command: str) -> Json:
    """Return the JSON Schema of the documents of a command."""
    definitions = {
        name: {
            "type": "object",
            "properties": {field.strip("()"): _type(kind, command) for field, kind in fields},
            "required": [field for field, _ in fields if not field.startswith("(")],
        }
        for name, fields in records().items()
    }
    has_batch = command in ("inspect", "convert", "run", "check")
    root = _type(f"{DOCUMENTS[command]}|Batch" if has_batch else DOCUMENTS[command], command)
    used: list[str] = []
    waiting = [root]
    while waiting:
        text = json.dumps(waiting.pop())
        for name, one in definitions.items():
            if name not in used and f'"#/$defs/{name}"' in text:
                used.append(name)
                waiting.append(one)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"lstmstate.{command}/1",
        "description": f"The documents of `lstmstate {command} --json`; see json.md.",
        **root,
        "$defs": {name: one for name, one in definitions.items() if name in used},
    }


def texts() -> dict[Path, str]:
    """Return the file and the text of each schema."""
    folder = Path(__file__).resolve().parent
    return {
        folder / f"{command}.json": json.dumps(schema(command), indent=2) + "\n"
        for command in DOCUMENTS
    }


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
