"""States in pickles: what is read, and attacks."""

from __future__ import annotations

import importlib
import os
import pickle
import random
import shutil
import struct
import sys
import types
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from work import MIB, few_lines, little_memory

from lstmstate import limits
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError
from lstmstate.state.formats import pickle_reader
from lstmstate.state.formats.pickle_reader import (
    DTYPES,
    LSTMStateTuple,
    looks_like_pickle,
    read_pickle,
)

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
NANS = np.array([0x7FC00001, 0xFF800123, 0x80000000], np.uint32).view(np.float32)
LARGE = np.arange(70_000, dtype="f4")
C, M = np.arange(6, dtype="f4").reshape(2, 3), np.full((2, 2), -0.0)

ARRAYS = {
    "float32": C,
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "one axis of three": np.arange(24, dtype="i2").reshape(2, 3, 4).transpose(1, 0, 2),
    "strided": np.arange(10, dtype="u8")[::3],
    "no axes": np.array(7, "i4"),
    "empty": np.zeros((0, 3), "f2"),
    "empty and wide": np.zeros((1 << 40, 0, 3), "f2"),
    "big-endian": np.array([1.5, -0.0], ">f8"),
    "bool": np.array([True, False]),
    "one byte": np.array([200], "u1"),
    "every byte": np.arange(256, dtype="u1"),
    "complex": np.array([1 + 2j, -0.0j], "c8"),
    "NaNs with payloads": NANS,
    "large": LARGE,
}
STRUCTURES = {
    **ARRAYS,
    "flat tuple": (C, M),
    "Keras list": [M, C],
    "one of one": [(C,)],
    "none": (),
    "layers": [((C, M), (M, C)), [C, [M, ()]]],
    "shared": (C, [C, C], C),
    "large and shared": (LARGE, [LARGE, LARGE]),
}

STATE_MODULES = [
    "tensorflow.python.ops.rnn_cell",
    "tensorflow.contrib.rnn.python.ops.core_rnn_cell_impl",
    "tensorflow.python.ops.rnn_cell_impl",
    "tensorflow_core.python.ops.rnn_cell_impl",
    "tensorflow.python.keras.layers.legacy_rnn.rnn_cell_impl",
    "keras.layers.legacy_rnn.rnn_cell_impl",
    "keras.layers.rnn.legacy_cells",
    "keras.src.layers.rnn.legacy_cells",
    "tf_keras.layers.rnn.legacy_cells",
    "tf_keras.src.layers.rnn.legacy_cells",
]

# The output of Python 2.7.18 with NumPy 1.11.3 and TensorFlow 1.2.1 for
# an LSTMStateTuple of these two.
OLD = np.array([[0.5, -2]], "<f4"), np.array([[-0.0]], ">f8")
PYTHON_2 = {
    "pickle 0": b"ccopy_reg\n_reconstructor\np0\n(ctensorflow.python.ops.rnn_cell_impl\n"
    b"LSTMStateTuple\np1\nc__builtin__\ntuple\np2\n(cnumpy.core.multiarray\n_reconstruct\np3\n"
    b"(cnumpy\nndarray\np4\n(I0\ntp5\nS'b'\np6\ntp7\nRp8\n(I1\n(I1\nI2\ntp9\ncnumpy\ndtype\np10\n"
    b"(S'f4'\np11\nI0\nI1\ntp12\nRp13\n(I3\nS'<'\np14\nNNNI-1\nI-1\nI0\ntp15\nbI00\n"
    b"S'\\x00\\x00\\x00?\\x00\\x00\\x00\\xc0'\np16\ntp17\nbg3\n(g4\n(I0\ntp18\ng6\ntp19\nRp20\n"
    b"(I1\n(I1\nI1\ntp21\ng10\n(S'f8'\np22\nI0\nI1\ntp23\nRp24\n(I3\nS'>'\np25\nNNNI-1\nI-1\nI0\n"
    b"tp26\nbI00\nS'\\x80\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\np27\ntp28\nbtp29\ntp30\nRp31\n.",
    "cPickle 0": b"ccopy_reg\n_reconstructor\np1\n(ctensorflow.python.ops.rnn_cell_impl\n"
    b"LSTMStateTuple\np2\nc__builtin__\ntuple\np3\n(cnumpy.core.multiarray\n_reconstruct\np4\n"
    b"(cnumpy\nndarray\np5\n(I0\ntS'b'\ntRp6\n(I1\n(I1\nI2\ntcnumpy\ndtype\np7\n(S'f4'\nI0\nI1\n"
    b"tRp8\n(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x00\\x00\\x00?\\x00\\x00\\x00\\xc0'\ntbg4\n"
    b"(g5\n(I0\ntS'b'\ntRp9\n(I1\n(I1\nI1\ntg7\n(S'f8'\nI0\nI1\ntRp10\n(I3\nS'>'\nNNNI-1\nI-1\n"
    b"I0\ntbI00\nS'\\x80\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\ntbttRp11\n.",
    "cPickle 1": b"ccopy_reg\n_reconstructor\nq\x01(ctensorflow.python.ops.rnn_cell_impl\n"
    b"LSTMStateTuple\nq\x02c__builtin__\ntuple\nq\x03(cnumpy.core.multiarray\n_reconstruct\n"
    b"q\x04(cnumpy\nndarray\nq\x05(K\x00tU\x01btRq\x06(K\x01(K\x01K\x02tcnumpy\ndtype\nq\x07("
    b"U\x02f4K\x00K\x01tRq\x08(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbI00\n"
    b"U\x08\x00\x00\x00?\x00\x00\x00\xc0tbh\x04(h\x05(K\x00tU\x01btRq\t(K\x01(K\x01K\x01th\x07("
    b"U\x02f8K\x00K\x01tRq\n(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbI00\n"
    b"U\x08\x80\x00\x00\x00\x00\x00\x00\x00tbttRq\x0b.",
    "pickle 2": b"\x80\x02ctensorflow.python.ops.rnn_cell_impl\nLSTMStateTuple\nq\x00"
    b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01bq\x04"
    b"\x87q\x05Rq\x06(K\x01K\x01K\x02\x86q\x07cnumpy\ndtype\nq\x08U\x02f4q\tK\x00K\x01\x87q\nRq"
    b"\x0b(K\x03U\x01<q\x0cNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\rb\x89U\x08\x00\x00\x00?"
    b"\x00\x00\x00\xc0q\x0etq\x0fbh\x01h\x02K\x00\x85q\x10h\x04\x87q\x11Rq\x12(K\x01K\x01K\x01"
    b"\x86q\x13h\x08U\x02f8q\x14K\x00K\x01\x87q\x15Rq\x16(K\x03U\x01>q\x17NNNJ\xff\xff\xff\xff"
    b"J\xff\xff\xff\xffK\x00tq\x18b\x89U\x08\x80\x00\x00\x00\x00\x00\x00\x00q\x19tq\x1ab\x86q"
    b"\x1b\x81q\x1c.",
}

# The output of Python 3.8.18 with NumPy 1.22.4 for [array([0.5, -2], '<f4')].
NUMPY_1 = {
    0: b"(lp0\ncnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nc_codecs\n"
    b"encode\np4\n(Vb\np5\nVlatin1\np6\ntp7\nRp8\ntp9\nRp10\n(I1\n(I2\ntp11\ncnumpy\ndtype\np12\n"
    b"(Vf4\np13\nI00\nI01\ntp14\nRp15\n(I3\nV<\np16\nNNNI-1\nI-1\nI0\ntp17\nbI00\ng4\n"
    b"(V\\u0000\\u0000\\u0000?\\u0000\\u0000\\u0000\xc0\np18\ng6\ntp19\nRp20\ntp21\nba.",
    4: b"\x80\x04\x95\x93\0\0\0\0\0\0\0]\x94\x8c\x15numpy.core.multiarray\x94\x8c\x0c_reconstruct"
    b"\x94\x93\x94\x8c\x05numpy\x94\x8c\x07ndarray\x94\x93\x94K\x00\x85\x94C\x01b\x94\x87\x94R"
    b"\x94(K\x01K\x02\x85\x94h\x04\x8c\x05dtype\x94\x93\x94\x8c\x02f4\x94\x89\x88\x87\x94R\x94("
    b"K\x03\x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94b\x89C\x08\0\0\0?\0\0\0"
    b"\xc0\x94t\x94ba.",
    5: b"\x80\x05\x95~\0\0\0\0\0\0\0]\x94\x8c\x12numpy.core.numeric\x94\x8c\x0b_frombuffer\x94"
    b"\x93\x94(\x96\x08\0\0\0\0\0\0\0\0\0\0?\0\0\0\xc0\x94\x8c\x05numpy\x94\x8c\x05dtype\x94\x93"
    b"\x94\x8c\x02f4\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff"
    b"\xffK\x00t\x94bK\x02\x85\x94\x8c\x01C\x94t\x94R\x94a.",
}

# The output of Python 2.7.18 for bytes with escapes, x ' \ newline 255 ", as 2 × 3 uint8.
ESCAPED = (
    b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\n"
    b"Rp5\n(I1\n(I2\nI3\ntp6\ncnumpy\ndtype\np7\n(S'u1'\np8\nI0\nI1\ntp9\nRp10\n(I3\nS'|'\np11\n"
    b"NNNI-1\nI-1\nI0\ntp12\nbI00\nS'x\\'\\\\\\n\\xff\"'\np13\ntp14\nb."
)


def same(found: Any, expected: Any) -> None:
    """Check for the same structure, with equal arrays to the bit."""
    if isinstance(expected, np.ndarray):
        assert (found.shape, found.dtype.str) == (expected.shape, expected.dtype.str)
        assert found.tobytes() == expected.tobytes()
        return
    assert type(found) is type(expected)
    for part, wanted in zip(found, expected, strict=True):
        same(part, wanted)


def fake_class(monkeypatch: pytest.MonkeyPatch, module: str, **body: object) -> Any:
    """Return an LSTMStateTuple from a module of that name, which is made for the test."""
    base = namedtuple("LSTMStateTuple", ("c", "h"))
    made = type("LSTMStateTuple", (base,), {**body, "__module__": module})
    names = module.split(".")
    for end in range(1, len(names) + 1):
        fake: Any = types.ModuleType(".".join(names[:end]))
        fake.__path__ = []
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
    fake.LSTMStateTuple = made
    return made


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", STRUCTURES)
def test_pickles_of_python_are_read(name: str, protocol: int) -> None:
    data = pickle.dumps(STRUCTURES[name], protocol)
    same(read_pickle(data), STRUCTURES[name])
    if protocol <= 3 and b"numpy._core" in data:  # the module names of NumPy 1
        same(read_pickle(data.replace(b"numpy._core", b"numpy.core")), STRUCTURES[name])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("module", STATE_MODULES)
def test_state_tuples_of_every_module_are_read(
    monkeypatch: pytest.MonkeyPatch, module: str, protocol: int
) -> None:
    for body in ({"__slots__": ()}, {}):
        made = fake_class(monkeypatch, module, **body)
        value = (made(C, M), [made(M, C)])
        found = read_pickle(pickle.dumps(value, protocol))
        same(found, (LSTMStateTuple(C, M), [LSTMStateTuple(M, C)]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "module",
    [
        "tf_keras.src.layers.rnn.legacy_cells",
        "tensorflow.python.keras.layers.legacy_rnn.rnn_cell_impl",
    ],
)
def test_state_tuples_of_tensorflow_itself_are_read(module: str, protocol: int) -> None:
    real = importlib.import_module(module).LSTMStateTuple
    found = read_pickle(pickle.dumps((real(C, M), real(M, NANS)), protocol))
    same(found, (LSTMStateTuple(C, M), LSTMStateTuple(M, NANS)))


def test_the_empty_state_of_namedtuples_from_python_3_5_to_3_10_is_read() -> None:
    same(read_pickle(PYTHON_2["pickle 2"][:-1] + b"}b."), LSTMStateTuple(*OLD))


@pytest.mark.parametrize("name", PYTHON_2)
def test_pickles_of_python_2_and_tensorflow_1_are_read(name: str) -> None:
    same(read_pickle(PYTHON_2[name]), LSTMStateTuple(*OLD))
    assert looks_like_pickle(PYTHON_2[name])


def test_the_escapes_of_python_2_are_read() -> None:
    same(read_pickle(ESCAPED), np.frombuffer(b"x'\\\n\xff\"", "u1").reshape(2, 3))


@pytest.mark.parametrize("protocol", NUMPY_1)
def test_pickles_of_numpy_1_are_read(protocol: int) -> None:
    same(read_pickle(NUMPY_1[protocol]), [np.array([0.5, -2], "<f4")])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_dtype_is_read(protocol: int) -> None:
    for code in sorted(DTYPES):
        for order in "<>":
            array = np.zeros(3, order + code)
            same(read_pickle(pickle.dumps(array, protocol)), array)


def test_arrays_are_read_only_and_keep_their_order() -> None:
    c, f = read_pickle(pickle.dumps((C, np.asfortranarray(C)), 5))
    assert not c.flags.writeable
    assert f.flags.f_contiguous


ANY_ARRAY = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda code: hnp.arrays(code, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
)
ANY_VALUE = st.recursive(
    ANY_ARRAY | st.builds(LSTMStateTuple, ANY_ARRAY, ANY_ARRAY),
    lambda parts: st.lists(parts, max_size=4) | st.lists(parts, max_size=4).map(tuple),
    max_leaves=8,
)


@given(ANY_VALUE, st.sampled_from(PROTOCOLS), st.binary())
def test_any_value_is_read_to_the_bit(value: Any, protocol: int, rest: bytes) -> None:
    """LSTMStateTuples are pickled as the class of tf.keras; bytes after the pickle are ignored."""
    real = importlib.import_module("tf_keras.src.layers.rnn.legacy_cells").LSTMStateTuple

    def with_class(part: Any) -> Any:
        if isinstance(part, LSTMStateTuple):
            return real(*part)
        if isinstance(part, (list, tuple)):
            return type(part)(map(with_class, part))
        return part

    same(read_pickle(pickle.dumps(with_class(value), protocol) + rest), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickles_are_distinguished_from_other_files(protocol: int) -> None:
    for name, value in STRUCTURES.items():
        if name != "none":
            assert looks_like_pickle(pickle.dumps(value, protocol)[:4096]), name


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"c,h\n1,2\n",
        b"(0.5, 0.25)\n",
        b"[[1, 2]]\n",
        b"]\n",
        b"cos\nsystem\n(S'id'\ntR.",
        b"comma\nseparated\n",
        b"\x80\x02",
        b"\x80\x06c",
        b"\x93NUMPY\x01\x00",
        b"l" * 4096,
        b"(" * 4096,
        b"(l" * 2000 + b"p1\n",
    ],
)
def test_other_files_are_not_mistaken_for_pickles(start: bytes) -> None:
    assert not looks_like_pickle(start)


# ---- malicious pickles: nothing is called, and time and memory are bounded


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
        with bound, pytest.raises(CorruptError, match="beyond their count"):
            read_pickle(data)
    last = (limits.MAX_PICKLE_OPCODES // 2).to_bytes(4, "little")
    for bound in bounds(1_000, 1):
        with bound:
            assert read_pickle(b"\x80\x02]r" + last + b"j" + last + b"\x86.") == ([], [])


def test_memo_indexes_of_one_hash_are_refused() -> None:
    """Python hashes a number modulo 2^61 - 1: 30,000 of one hash would take half a minute."""
    indexes = b"".join(b"p%d\n" % (number * ((1 << 61) - 1)) for number in range(1, 30_000))
    for bound in bounds(1_000, 4):
        with bound, pytest.raises(CorruptError, match="numbers its values beyond their count"):
            read_pickle(b"]" + indexes + b".")


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
