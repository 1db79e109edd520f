"""Malicious pickles: nothing is called, and time and memory are bounded."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from work import MIB, few_lines, little_memory

from lstmstate import limits
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError
from lstmstate.state.formats import pickle_reader
from lstmstate.state.formats.pickle_reader import read_pickle

try:
    import torch
except ImportError:  # it is large, and is tested if installed
    torch = None  # type: ignore[assignment]


ARRAY = np.arange(3, dtype="f4")
STATE = [(ARRAY, np.ones((1, 2), ">f8")), ARRAY]


def bounds(lines: int, megabytes: float) -> Iterator[AbstractContextManager[None]]:
    """Yield two limits for the same block: together each would count the work of the other."""
    yield few_lines(lines)
    yield little_memory(megabytes)


class Reduced:
    """Is pickled as the call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def protocol_4(*names: str) -> bytes:
    """Return a pickle that names a module with values from the stack."""
    texts = b"".join(b"\x8c" + bytes([len(name)]) + name.encode() for name in names)
    return b"\x80\x04" + texts + b"\x93)R."


def array_of(shape: bytes, raw: bytes = b"C\x04\0\0\0\0", order: bytes = b"\x89") -> bytes:
    """Return the pickle of a float32 array whose shape is made by these instructions."""
    return (
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01"
        + shape
        + b"cnumpy\ndtype\nX\x02\0\0\0f4\x89\x88\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xff"
        + b"J\xff\xff\xff\xffK\0tb"
        + order
        + raw
        + b"tb."
    )


HUGE = b"\x8a\x08" + struct.pack("<q", 1 << 62)  # 2^62 × 2^62 × 4 is 0 in 64 bits
# What NumPy 2.4 writes for arange(8) as uint8, in the shape (2, 2, 2), with axes 1, 0, 2.
AXES = (
    b"\x80\x05cnumpy._core.numeric\n_frombuffer\n(\x96\x08\0\0\0\0\0\0\0\0\1\2\3\4\5\6\7"
    b"cnumpy\ndtype\nX\x02\0\0\0u1\x89\x88\x87R(K\x03X\x01\0\0\0|NNNJ\xff\xff\xff\xff"
    b"J\xff\xff\xff\xffK\0tbK\x02K\x02K\x02\x87X\x01\0\0\0KK\x01K\0K\x02\x87tR."
)
KNOWN = b"ctensorflow.python.ops.rnn_cell_impl\nLSTMStateTuple\n"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Reduced(os.system, "touch owned"), f"{os.name}.system"),
        (Reduced(eval, "1"), "eval"),
        (Reduced(exec, "1"), "exec"),
        (Reduced(__import__, "os"), "__import__"),
        (Reduced(getattr, Reduced(__import__, "os"), "system"), "getattr"),
        (Reduced(shutil.rmtree, "x"), "shutil.rmtree"),
        (Reduced(np.load, "x.npy"), "numpy.load"),
        (Reduced(np.fromfile, "/etc/passwd"), "numpy.fromfile"),
        (Reduced(np.zeros, (1 << 40,)), "numpy.zeros"),
        (Reduced(bytearray, 1 << 40), "bytearray"),
        (Reduced(open, "/etc/passwd"), "open"),
        (np.float32(1), "multiarray.scalar"),
        (np.zeros(2, ml_dtypes.bfloat16), "ml_dtypes.bfloat16"),
        *([(torch.zeros(2), "torch._utils._rebuild_tensor_v2")] if torch else []),
        (OrderedDict(), "collections.OrderedDict"),
        (Fraction(1, 2), "fractions.Fraction"),
        (np.ma.zeros(2), "_mareconstruct"),
        (Reduced, "Reduced"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_are_refused_and_never_called(value: Any, name: str, protocol: int) -> None:
    for data in (pickle.dumps(value, protocol), pickle.dumps([ARRAY, (value,)], protocol)):
        with pytest.raises(UnsupportedError) as raised:
            read_pickle(data)
        assert "it asks for " in raised.value.problem
        assert f"{name}, which is never called" in raised.value.problem
        assert "save the state as an .npz" in str(raised.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"cos\nsystem\n(S'id'\ntR.", "asks for os.system,"),
        (b"\x80\x02cbuiltins\neval\nX\x01\0\0\0" + b"1\x85R.", "asks for builtins.eval,"),
        (protocol_4("numpy", "core.multiarray._reconstruct"), "asks for numpy.core.multi"),
        (protocol_4("numpy", "ndarray.__reduce__"), "asks for numpy.ndarray.__reduce__,"),
        (protocol_4("tensorflow.python.ops.rnn_cell_impl", "LSTMStateTuple.__new__"), "__new__,"),
        (protocol_4("a\x1b[31m\n", "b"), r"asks for a\x1b[31m\n.b,"),
        (b"c" + b"m" * 9999 + b"\nn\n.", "mmm..., which"),
        (b"(S'id'\nios\nsystem\n.", "holds an object of a class"),
        (b"(cos\nsystem\no.", "asks for os.system,"),
        (b"Pid\n.", "holds a persistent id"),
        (b"\x80\x02K\x01Q.", "holds a persistent id"),
        (b"\x80\x02\x82\x01.", "holds an extension code"),
        (b"\x80\x02\x84\x01\0\0\0.", "holds an extension code"),
        (b"\x80\x05\x97.", "bytes outside the file"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "an integer of any length"),
        (b"\x80\x02K\x01" + b"2.", "the instruction b'2'"),
        (b"\xff", r"the instruction b'\xff'"),
        (b"\x80\x06N.", "protocol 6"),
        (array_of(b"(" + b"K\x01" * 33 + b"t"), "an array of 33 axes"),
        (KNOWN + b"]]\x86\x81.", "an LSTMStateTuple of tuples or lists"),
        (pickle.dumps({"c": ARRAY}), "it holds a dict or a structured dtype; only LSTMStateTuple"),
        (pickle.dumps({}), "it holds a dict"),
        (pickle.dumps({1}), "it holds a set"),
        (pickle.dumps([1.5]), "it holds a float"),
        (pickle.dumps((ARRAY, 3)), "it holds an integer"),
        (pickle.dumps([True]), "it holds True or False"),
        (pickle.dumps([None]), "it holds None"),
        (pickle.dumps("c"), "it holds a text"),
        (pickle.dumps(b"c"), "it holds bytes"),
        (pickle.dumps(np.ndarray), "it holds a class"),
        (pickle.dumps(np.array([None])), "dtype 'O8'"),
        (pickle.dumps(np.array(["a"])), "dtype 'U1'"),
        (pickle.dumps(np.zeros(1, "f4,f4")), "a dict or a structured dtype"),
        (pickle.dumps(np.zeros(1, "(2,)f4,f4")), "a dict or a structured dtype"),
        (pickle.dumps(np.zeros(1, "M8[s]")), "dtype 'M8'"),
        (pickle.dumps(np.zeros(1, "g")), "dtype 'f16'"),
    ],
)
def test_other_things_are_refused_by_name(data: bytes, words: str) -> None:
    with pytest.raises(UnsupportedError) as raised:
        read_pickle(data)
    assert words in str(raised.value)
    assert str(raised.value).isprintable()


def test_an_array_of_external_bytes_is_refused() -> None:
    data = pickle.dumps(ARRAY, 5, buffer_callback=lambda buffer: None)
    with pytest.raises(UnsupportedError, match="outside the file"):
        read_pickle(data)


@pytest.mark.parametrize(
    "data",
    [
        array_of(HUGE + b"\x85"),
        array_of(HUGE * 2 + b"\x86"),
        array_of(b"K\0" + HUGE * 2 + b"\x87"),
        array_of(b"\x8a\xff" + b"\x7f" * 255 + b"\x85"),
        array_of(b"K\x02\x85"),
        array_of(b")", raw=b"C\0"),
        array_of(b"J\xff\xff\xff\xff\x85"),
        array_of(b"J\xff\xff\xff\xff" * 2 + b"\x86"),
        array_of(b"N\x85"),
        array_of(b"\x88\x85"),
        array_of(b"K\x01"),
        array_of(b"K\x01\x85", raw=b"X\x04\0\0\0abcd"),
        array_of(b"K\x01\x85", raw=b"]"),
        array_of(b"K\x01\x85", raw=b"C\x08" + b"\0" * 8),
        array_of(b"K\x01\x85", raw=b"c_codecs\nencode\nX\x05\0\0\0abc\xe2X\x06\0\0\0latin1\x86R"),
        array_of(
            b"K\x01\x85", raw=b"c_codecs\nencode\nX\x03\0\0\0\xe2\x82\xacX\x06\0\0\0latin1\x86R"
        ),
        array_of(b"K\x01\x85", raw=b"c_codecs\nencode\nX\x01\0\0\0aX\x03\0\0\0zip\x86R"),
        array_of(b"K\x01\x85", order=b"N"),
        AXES.replace(b"K\x01K\0K\x02\x87", b"K\x01K\x01K\x02\x87"),
        AXES.replace(b"K\x01K\0K\x02\x87", b"K\x01K\0K\x03\x87"),
        AXES.replace(b"K\x01K\0K\x02\x87", b"(K\x01K\0K\x02Nt"),
        AXES.replace(b"K\x01K\0K\x02\x87", b"(K\x01K\0K\x02K\x02t"),
        AXES.replace(b"K\x01K\0K\x02\x87", b"(\x88K\0K\x02t"),
        array_of(b"K\x01\x85").replace(b"<", b"!"),
        array_of(b"K\x01\x85").replace(b"K\0tb", b"K\0t0b"),
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.",  # not filled
        b"cnumpy.core.multiarray\n_reconstruct\n(K\0tR.",
        b"cnumpy\nndarray\n(I99999999999\ntR.",
        KNOWN + b"(tR.",
        KNOWN + b"(NNNtR.",
        KNOWN + b"NR.",
        b"(KNtb.",
        b"K\x01R.",
        b"",
        b".",
        b"t.",
        b"a.",
        b"K\x01K\x02a.",
        b"g5\n.",
        b"h\x05.",
        b"Ix\n.",
        b"I" + b"9" * 10_000_000 + b"\n.",
        b"L" + b"9" * 10_000_000 + b"L\n.",
        b"p" + b"9" * 10_000_000 + b"\n.",
        b"S'a\n.",
        b"S\n.",
        b"S'\\x1'\n.",
        b"V\\ud\n.",
        b"X\x01\0\0\0\xff.",
        b"c\xff\nn\n.",
        b"K\x01K\x02\x93.",
        b"B\xff\xff\xff\xff",
        b"\x8e" + b"\xff" * 8,
        b"\x96" + b"\xff" * 7 + b"\x7f",
        b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    ],
)
def test_damage_is_reported(data: bytes) -> None:
    for bound in bounds(2_000, 32 + len(data) / MIB * 4):
        with bound, pytest.raises(LstmstateError) as raised:
            read_pickle(data)
    assert isinstance(raised.value, CorruptError) or b"0b" in data
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("code", [b"I", b"L", b"p", b"g"])
def test_long_numbers_are_not_parsed(code: bytes) -> None:
    with pytest.raises(CorruptError, match="more digits than any has"):
        read_pickle(b"]" + code + b"9" * 33 + b"\n.")


def test_the_axes_of_an_array_are_kept() -> None:
    found = read_pickle(AXES)
    assert found.tobytes() == b"\0\1\4\5\2\3\6\7"
    assert found.strides == (2, 4, 1)


def test_an_invalid_escape_gives_no_warning() -> None:
    with pytest.raises(UnsupportedError, match="it holds bytes"):
        read_pickle(b"S'\\d'\n.")


def test_a_large_memo_index_allocates_nothing() -> None:
    data = b"\x80\x02]r\xff\xff\xff\xff0" + pickle.dumps([ARRAY], 2)[2:]
    for bound in bounds(1_000, 1):
        with bound, pytest.raises(UnsupportedError, match="b'0'"):
            read_pickle(data)
    far = b"\xff\xff\xff\xff"
    for bound in bounds(1_000, 1):
        with bound:
            assert read_pickle(b"\x80\x02]r" + far + b"j" + far + b"\x86.") == ([], [])
            assert read_pickle(b"]p" + b"9" * 30 + b"\n.") == []


def test_few_bytes_that_expand_to_many_are_refused() -> None:
    laughs = b"\x80\x02)" + b"".join(
        b"q%c(" % index + b"h%c" % index * 10 + b"t" for index in range(12)
    )
    for bound in bounds(3_000_000, 16):
        with bound, pytest.raises(UnsupportedError, match="more than 20000 parts"):
            read_pickle(laughs + b".")
    raw = array_of(b"K\x01\x85")[:-1] + b"q\0"
    for bound in bounds(3_000_000, 64):
        with bound, pytest.raises(UnsupportedError, match="more than 20000 parts"):
            read_pickle(raw[:2] + b"(" + raw[2:] + b"h\0" * 50_000 + b"t.")


def test_shared_bytes_are_not_copied_for_each_array() -> None:
    text = b"c_codecs\nencode\nX" + struct.pack("<I", MIB) + b"a" * MIB + b"q\x01X\x06\0\0\0latin1"
    first = array_of(struct.pack("<cI", b"J", MIB // 4) + b"\x85", raw=text + b"\x86R")
    again = first.replace(text, b"c_codecs\nencode\nh\x01X\x06\0\0\0latin1")
    for bound in bounds(1_000_000, 16):
        with bound, pytest.raises(UnsupportedError, match="over and over"):
            read_pickle(b"\x80\x03(" + (first[2:-1] + again[2:-1] * 1000) + b"t.")
    # An object made by one call may be shared: it is in memory once.
    shared = first.replace(b"\x86Rtb.", b"\x86Rq\x02tb.")
    again = shared.replace(text + b"\x86Rq\x02", b"h\x02")
    for bound in bounds(1_000_000, 16):
        with bound:
            found = read_pickle(b"\x80\x03(" + (shared[2:-1] + again[2:-1] * 1000) + b"t.")
        assert len(found) == 1001


@pytest.mark.parametrize("levels", [limits.MAX_PICKLE_DEPTH, 30_000])
@pytest.mark.parametrize("kind", ["marked tuples", "tuples", "lists", "calls"])
def test_deep_nesting_is_refused(kind: str, levels: int) -> None:
    def nested(levels: int) -> bytes:
        return {
            "marked tuples": b"(" * (levels + 1) + b"t" * (levels + 1),
            "tuples": b")" + b"\x85" * levels,
            "lists": b"(" * (levels + 1) + b"l" * (levels + 1),
            "calls": KNOWN + b"q\0" + b"q\1h\0h\1h\1\x86\x81" * levels,
        }[kind]

    with little_memory(400), pytest.raises(LstmstateError, match="nested|of tuples|deeper"):
        read_pickle(nested(levels + 1) + b".")
    few = min(levels, 2_000)  # counting takes some time
    with few_lines(1_000 + 200 * few), pytest.raises(LstmstateError):
        read_pickle(nested(few + 1) + b".")
    if kind != "calls":
        read_pickle(nested(limits.MAX_PICKLE_DEPTH) + b".")


def test_a_list_in_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UnsupportedError, match="nested deeper"):
        read_pickle(pickle.dumps(endless))


@pytest.mark.parametrize("code", [b"N", b"(", b"]\x94", b"KZp5\n"])
def test_instructions_are_bounded(monkeypatch: pytest.MonkeyPatch, code: bytes) -> None:
    assert limits.MAX_PICKLE_OPCODES == 1_000_000  # times the 100 bytes below
    monkeypatch.setattr(limits, "MAX_PICKLE_OPCODES", 50_000)
    for bound in bounds(40 * 50_000, 5):
        with bound, pytest.raises(UnsupportedError, match="50000 instructions"):
            read_pickle(code * 50_001)


def test_a_large_array_is_read_at_once() -> None:
    array = np.zeros(25 * MIB, "f4")
    for protocol in (2, 3, 5):
        data = pickle.dumps(array, protocol)
        for bound in bounds(3_000, 220 if protocol == 2 else 110):
            with bound:
                assert read_pickle(data).shape == array.shape


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_truncation_is_damage(protocol: int) -> None:
    data = pickle.dumps(STATE, protocol)
    for length in range(len(data)):
        with pytest.raises(CorruptError):
            read_pickle(data[:length])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_flipped_bit_is_an_error_or_another_value(protocol: int) -> None:
    data = pickle.dumps(STATE, protocol)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        read_or_refused(bytes(flipped))


@pytest.mark.parametrize("seed", range(20))
def test_spliced_pickles_are_errors_or_other_values(seed: int) -> None:
    chance = random.Random(seed)
    sources = [pickle.dumps(STATE, protocol) for protocol in range(6)]
    for _ in range(200):
        first, second = chance.choices(sources, k=2)
        cut, begin = chance.randrange(len(first)), chance.randrange(len(second))
        read_or_refused(first[:cut] + second[begin : begin + chance.randrange(60)] + first[cut:])


def read_or_refused(data: bytes) -> None:
    """Read bytes that may be a pickle; raise any errors but our own."""
    try:
        read_pickle(data)
    except LstmstateError as error:
        assert str(error).isprintable()


INSTRUCTIONS = st.sampled_from(
    [
        *(bytes([code]) for code in range(256)),
        *(f"c{module}\n{name}\n".encode() for module, name in pickle_reader._NAMES),
        *(b"K\0", b"K\x01", b"C\x04\0\0\0\0", b"X\x02\0\0\0f4", b"X\x01\0\0\0<", b"h\0", b"q\0"),
    ]
)


@settings(max_examples=300)
@given(st.binary() | st.lists(INSTRUCTIONS, max_size=80).map(b"".join))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for bound in bounds(4_000, 8):
        with bound:
            read_or_refused(data + b".")
