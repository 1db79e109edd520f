"""Malicious state files: nothing is followed, run or allocated before it is checked.

The attacks on pickles are in test_pickles.py.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from states import Shape, npy, state_of

from lstmstate import LstmstateError, limits, load_state, save_state
from lstmstate.errors import CorruptError, UnsupportedError
from lstmstate.state.metadata import parse

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(cut in half|is read as layered):UserWarning"),
    pytest.mark.memory(20),
]


def refused(path: Path | str, words: str = "", **arguments: Any) -> LstmstateError:
    """Check that a state is refused with the file in the message, and return the error."""
    with pytest.raises(LstmstateError) as raised:
        load_state(path, **arguments)
    assert words in str(raised.value)
    assert str(raised.value).startswith(str(path).split(":")[0])
    return raised.value


# ---- npy files, also as members of npz


HEADERS: dict[str, tuple[dict[str, object] | str, str]] = {
    "a petabyte": ({"shape": (1 << 40, 256)}, "cut short"),
    "sizes whose product wraps to 0": ({"shape": (1 << 32, 1 << 32)}, "cut short"),
    "sizes whose product wraps to 64": ({"shape": ((1 << 58) + 1, 16)}, "cut short"),
    "a size beyond every integer": ({"shape": (1 << 70, 2)}, "cut short"),
    "a size of thousands of digits": ("{'descr': '<f4', 'shape': (%s,)}" % ("9" * 9000), ""),
    "a size below zero": ({"shape": (-4, -4)}, ""),
    "a size that is not an integer": ({"shape": (2.0, 4)}, ""),
    "a size that is true": ({"shape": (True, 4)}, ""),
    "a shape that is a list": ({"shape": [2, 4]}, ""),
    "no batch at all": ({"shape": ()}, ""),
    "no width": ({"shape": (2, 0)}, ""),
    "a hundred axes": ({"shape": (1,) * 99 + (4,)}, ""),
    "objects": ({"shape": (2, 4), "descr": "|O"}, "a pickle, which is never read"),
    "objects in a record": ({"shape": (2, 4), "descr": [("a", "|O")]}, "which is never read"),
    "records": ({"shape": (2,), "descr": [("c", "<f4"), ("m", "<f4")]}, "not numbers"),
    "texts": ({"shape": (2,), "descr": "<U4"}, "not numbers"),
    "bytes": ({"shape": (2, 4), "descr": "|S4"}, "not numbers"),
    "dates": ({"shape": (2, 4), "descr": "<M8[s]"}, "not numbers"),
    "an unknown type": ({"shape": (2, 4), "descr": "<q99"}, ""),
    "arrays in an array": ({"shape": (4,), "descr": ("<f4", (4,))}, ""),
    "arrays of gigabytes in no array": ({"shape": (0, 4), "descr": ("<f4", (1 << 27, 3))}, ""),
    "patterns of gigabytes in no array": ({"shape": (0, 4), "descr": "|V2147483647"}, ""),
    "patterns of nothing in a long array": ({"shape": (1 << 40, 4), "descr": "|V0"}, ""),
    "rows beyond memory, of nothing": ({"shape": (1 << 62, 0, 4)}, ""),
    "code": ("{'descr': __import__('os').system('touch owned'), 'shape': (4,)}", ""),
    "deep brackets": ("(" * 9000, ""),
    "no dict": ("[1, 2]", ""),
    "another key": ({"shape": (2, 4), "more": 1}, ""),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_false_npy_header(tmp_path: Path, case: str, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    header, words = HEADERS[case]
    refused(npy(tmp_path / "a.npy", header, bytes(64)), words)
    assert os.listdir(tmp_path) == ["a.npy"]


@pytest.mark.parametrize("case", HEADERS)
def test_a_false_header_in_an_npz(tmp_path: Path, case: str) -> None:
    member = npy(tmp_path / "a.npy", HEADERS[case][0], bytes(64)).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("state.npy", member)
    refused(tmp_path / "a.npz", HEADERS[case][1])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x93NUMPY\x01\x00", ""),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 99, "its header is too long"),
        (b"\x93NUMPY\x03\x00\x10\x00\x00\x00" + b" " * 99, "its npy version is 3.0"),
        (b"\x93NUMPY\x09\x01\x10\x00\x00\x00" + b" " * 99, ""),
        (b"\x93NUMPY\x01\x00\x00\x10" + b" " * 99, ""),
    ],
)
def test_a_false_npy_preamble(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    refused(tmp_path / "a.npy", words)


def test_a_dtype_unknown_to_numpy_is_refused(tmp_path: Path) -> None:
    """NumPy writes the bfloat16 of ml_dtypes as V2, without sign or NaN."""
    file = npy(tmp_path / "a.npy", {"shape": (2, 4), "descr": "|V2"}, bytes(range(16)))
    refused(file, "not numbers that NumPy has; save it as float32")


def test_a_pickle_in_an_npz_is_never_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", c=np.array([{}]), m=np.zeros(1))
    refused(tmp_path / "a.npz", "a pickle, which is never read")


@pytest.mark.parametrize("size", [(1 << 32) - 64, 1 << 34])
def test_a_member_that_unpacks_to_far_more_than_it_stores(tmp_path: Path, size: int) -> None:
    """42 KB; the header and the directory declare gigabytes."""
    member = npy(tmp_path / "a.npy", {"shape": (size // 4 - 64, 4), "descr": "|i1"}).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("state.npy", member + bytes(1 << 20))
    found = zipfile.ZipFile(tmp_path / "a.npz")
    info = found.infolist()[0]
    data = bytearray((tmp_path / "a.npz").read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24
    if size < 1 << 32:
        data[at : at + 4] = size.to_bytes(4, "little")
        (tmp_path / "a.npz").write_bytes(data)
        refused(tmp_path / "a.npz")
        return
    info.file_size = size
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.filelist.append(info)
        archive.NameToInfo[info.filename] = info
        archive._didModify = True  # type: ignore[attr-defined]
        archive.start_dir = found.start_dir  # type: ignore[attr-defined]
        archive.fp.write(data[: found.start_dir])  # type: ignore[attr-defined, union-attr]
    refused(tmp_path / "b.npz", "KiB of arrays")


def test_a_member_that_stores_more_than_its_shape_needs(tmp_path: Path) -> None:
    member = npy(tmp_path / "a.npy", {"shape": (2, 4)}, bytes(36)).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("state.npy", member)
    with pytest.raises(CorruptError, match="it is longer than its shape allows"):
        load_state(tmp_path / "a.npz")


@pytest.mark.parametrize("is_zip64", [False, True])
def test_long_extra_fields_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_zip64: bool
) -> None:
    if is_zip64:
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    data = io.BytesIO()
    np.save(data, np.zeros((2, 3), np.float32))
    for length, words in ((252, ""), (256, "at most 256 bytes in a member, got 260")):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            for name in "cm":
                archive.writestr(f"{name}.npy", data.getvalue())
                archive.infolist()[-1].extra = b"FB" + length.to_bytes(2, "little") + bytes(length)
        if words:
            refused(tmp_path / "a.npz", words)
        else:
            load_state(tmp_path / "a.npz")


@pytest.mark.parametrize("how", ["a second end", "a comment", "no record", "another record"])
def test_long_extra_fields_are_found_where_zipfile_finds_them(tmp_path: Path, how: str) -> None:
    data = io.BytesIO()
    np.save(data, np.zeros((2, 3), np.float32))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in "cm":
            archive.writestr(f"{name}.npy", data.getvalue())
            archive.infolist()[-1].extra = b"FB" + (256).to_bytes(2, "little") + bytes(256)
            archive.infolist()[-1].comment = bytes(76)
    whole = bytearray((tmp_path / "a.npz").read_bytes())
    end = len(whole) - 22
    if how == "a second end":
        whole[end + 16 : end + 20] = b"PK\5\6"  # in the place of the directory
    elif how == "a comment":
        whole[end + 20 : end + 22] = b"\1\0"  # which is not there
    else:  # an end of ZIP64 in the comment of the last member
        whole[end - 20 : end - 16] = b"PK\6\7"
    if how == "another record":
        whole[end - 76 : end - 72] = b"PK\6\6"
        whole[end - 36 : end - 28] = bytes(8)  # its directory is empty
    (tmp_path / "a.npz").write_bytes(whole)
    refused(tmp_path / "a.npz", "the end of the archive is damaged")


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMBERS", limits.Rate("members", 3))
    np.savez(tmp_path / "a.npz", c=np.ones((1, 2)), m=np.ones((1, 2)), lr=np.ones(1))
    assert load_state(tmp_path / "a.npz").batch_shape == (1,)
    np.savez(tmp_path / "b.npz", c=np.ones(2), m=np.ones(2), lr=np.ones(1), step=np.ones(1))
    refused(tmp_path / "b.npz", "at most 3 members, got more")


# ---- HDF5


def h5(path: Path, **made: Callable[[h5py.File], object]) -> Path:
    """Write an HDF5 file: each item is made by a function, or in the ordinary way."""
    with h5py.File(path, "w") as file:
        for name, make in made.items():
            found = make(file)
            if found is not None:
                file[name] = found
    return path


def good(file: h5py.File) -> Any:
    return np.ones((2, 4), "f4")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file next to it that must not be read."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["c"] = np.full((2, 4), 7, "f4")
    return tmp_path / "secret.h5"


@pytest.mark.parametrize(
    "link", [lambda file: h5py.ExternalLink("secret.h5", "c"), lambda file: h5py.SoftLink("/m")]
)
def test_links_of_an_hdf5_file_are_not_followed(tmp_path: Path, secret: Path, link: Any) -> None:
    refused(h5(tmp_path / "a.h5", m=good, c=link), "expected m and c, got m alone")


def test_an_external_link_does_not_even_open_its_target(tmp_path: Path) -> None:
    """Opening a FIFO would block for ever."""
    os.mkfifo(tmp_path / "fifo")
    path = h5(tmp_path / "a.h5", m=good, c=lambda file: h5py.ExternalLink("fifo", "c"))
    refused(path, "got m alone")
    refused(f"{path}:c", "there is no such array")


def external(file: h5py.File) -> None:
    file.create_dataset("c", (2, 4), "f4", external=[("secret.h5", 0, 32)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2, 4), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "c", (2, 4))
    file.create_virtual_dataset("c", layout)


@pytest.mark.parametrize("make", [external, virtual])
def test_values_in_other_files_are_not_read(tmp_path: Path, secret: Path, make: Any) -> None:
    error = refused(h5(tmp_path / "a.h5", m=good, c=make), "are in another file")
    assert (type(error), error.tensor) == (UnsupportedError, "c")


def sized(shape: Shape, dtype: Any = "f4", **arguments: Any) -> Callable[[h5py.File], None]:
    def make(file: h5py.File) -> None:
        file.create_dataset("state", shape, dtype, **arguments)

    return make


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (sized((1 << 40, 4), chunks=(1, 4)), "KiB of arrays"),
        (sized((1 << 30, 1 << 10), chunks=(1, 4)), "KiB of arrays"),
        (sized((1, 1 << 25), chunks=(1, 1 << 20)), "134,217,728 bytes at a time, and 0 are stored"),
        (sized((1 << 25,), chunks=(1 << 20,)), "134,217,728 bytes at a time, and 0 are stored"),
        (sized((1 << 14, 4), chunks=(1, 1)), "expected at most 50,0"),
        (sized((1 << 31, 4), compression="gzip", chunks=(1024, 4)), "KiB of arrays"),
        (sized((2, 4), h5py.string_dtype()), "not numbers"),
        (sized((2, 4), h5py.ref_dtype), "not numbers"),
        (sized((2, 4), h5py.vlen_dtype("f4")), "not numbers"),
        (sized((2, 4), [("a", "f4")]), "not numbers"),
        (sized((2, 4), "S3"), "not numbers"),
        (sized((2, 4), np.dtype(("f4", (3,)))), ""),
        (lambda file: h5py.Empty("f4"), ""),
        (lambda file: np.float32(1), ""),
        (lambda file: np.dtype("f4"), "its arrays are: none"),
        (lambda file: file.create_group("group") and None, "its arrays are: none"),
    ],
)
def test_datasets_that_are_not_a_state(tmp_path: Path, make: Any, words: str) -> None:
    refused(h5(tmp_path / "a.h5", state=make), words)


def test_groups_that_contain_one_another_end(tmp_path: Path) -> None:
    def loop(file: h5py.File) -> None:
        file["a/again"] = file["a"]
        file["a/up"] = file["/"]

    path = h5(tmp_path / "a.h5", a=lambda file: file.create_group("a") and None, b=loop, c=good)
    refused(path, "got c alone")


def test_names_in_an_hdf5_file_cannot_control_a_terminal(tmp_path: Path) -> None:
    path = h5(tmp_path / "a.h5", **{"\x1b[31mred": good, "two": good})
    assert "\x1b" not in str(refused(path, "\\x1b[31mred"))
    assert "\x1b" not in str(refused(f"{path}:none"))


# ---- csv


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "# lstmstate",
        "# lstmstate {}\nc.0,m.0\n1,2\n",
        "# comment alone\n",
        "1,2\n3\n",
        "1,2\n3,x\n",
        "c.0,m.0\n1,2,3\n",
        "1,2\n\x00,3\n",
        "[" * 100_000,
        "1" * 10_000 + "j,2\n",
        "=cmd|' /C calc'!A0,1\n2,3\n4,5,6\n",
        "c.0,c.7,m.0\n1,2,3\n",
    ],
)
def test_text_that_is_not_a_state(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    refused(tmp_path / "a.csv")


def test_a_wide_csv_of_short_rows_is_refused_before_allocation(tmp_path: Path) -> None:
    """80 KB, whose header and number of rows declare a table of 800 MB."""
    header = ",".join(f"c.{k}" for k in range(10_000))
    (tmp_path / "a.csv").write_text(f"{header}\n" + "1\n" * 10_000)
    refused(tmp_path / "a.csv", "row 1 (line 2 of the file) has 1 fields, and the first line 10000")


def test_a_csv_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CSV_BYTES", 7)
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")
    refused(tmp_path / "a.csv", "a table of 8 bytes is not read as text")


# ---- metadata


CELL = {"name": "", "c": 3, "m": 3}
META: dict[str, Any] = {"layout": "flat", "cells": [CELL], "stack": False}


@pytest.mark.parametrize(
    "written",
    [
        *["", "{}", "[]", "null", "1", '"x"', "{", "NaN", "[" * 100_000, '{"a":' * 100_000],
        *[{"layout": "flat"}, {"cells": [CELL]}, {**META, "cells": []}, {**META, "cells": {}}],
        *[{**META, "cells": None}, {**META, "cells": "abc"}, {**META, "cells": [None]}],
        *[{**META, "cells": [CELL, CELL]}, {**META, "cells": [CELL] * 10_001, "stack": True}],
        *[{**META, "cells": [{**CELL, "c": width}]} for width in (-1, 1.5, "3", None, [], 1 << 63)],
        *[{**META, "cells": [{**CELL, "m": width}]} for width in (2, 4, 0, 1 << 62, 10**400)],
        *[{**META, "layout": name} for name in ("tuple", "stacked", "torch", "x\x1b[31m", "", [])],
        *[{**META, "part": part} for part in ("c", "m", "x", 1)],
    ],
    ids=lambda written: (written if isinstance(written, str) else json.dumps(written))[:60],
)
@pytest.mark.parametrize("kind", ["npz", "h5", "csv"])
def test_metadata_that_contradicts_the_arrays(tmp_path: Path, written: Any, kind: str) -> None:
    """The array is flat, and 6 wide."""
    line = written if isinstance(written, str) else json.dumps(written)
    flat = np.arange(12.0).reshape(2, 6)
    path = tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez(path, state=flat, lstmstate=line)
    elif kind == "csv":
        path.write_text(f"# lstmstate {line}\n0,1,2,3,4,5\n")
    elif len(line) < 60_000:  # attributes are short
        with h5py.File(path, "w") as file:
            file["state"] = flat
            file.attrs["lstmstate"] = np.bytes_(line)
    else:
        return
    assert "\x1b" not in str(refused(path))


@pytest.mark.parametrize(
    "line",
    [
        *["[" * 100_000, "1" * 10_000, "nothing"],
        json.dumps({**META, "cells": [{**CELL, "c": 1 << 63}]}),
    ],
    ids=lambda line: line[:20],
)
def test_unreadable_metadata_is_reported(line: str) -> None:
    with pytest.raises(CorruptError, match="its metadata cannot be read") as raised:
        parse(line)
    assert isinstance(raised.value.__cause__, ValueError | RecursionError)


def test_metadata_that_matches_the_arrays(tmp_path: Path) -> None:
    """The baseline of the tests above."""
    np.savez(tmp_path / "a.npz", state=np.zeros((2, 6)), lstmstate=json.dumps(META))
    assert load_state(tmp_path / "a.npz").widths == (3, 3)
    assert parse(json.dumps({**META, "cells": [CELL] * 10_000, "stack": True})).is_stack


def test_half_of_our_own_file_is_reported_as_incomplete(tmp_path: Path) -> None:
    save_state(state_of([(2, 2)], stack=False), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as whole:
        np.savez(tmp_path / "b.npz", c=whole["c"], lstmstate=whole["lstmstate"])
    assert isinstance(
        refused(tmp_path / "b.npz", "the array 'm' of its metadata is missing"), CorruptError
    )


def test_no_other_array_is_read_for_one_that_the_metadata_names(tmp_path: Path) -> None:
    """The metadata names c and m: an array h is not read as m."""
    written = {**META, "layout": "tuple"}
    np.savez(
        tmp_path / "a.npz", h=np.ones((2, 3)), c=np.zeros((2, 3)), lstmstate=json.dumps(written)
    )
    with pytest.raises(CorruptError, match="'m'"):
        load_state(tmp_path / "a.npz")
