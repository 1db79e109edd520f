"""Pickled states, as written by pickle, NumPy and TensorFlow."""

from __future__ import annotations

import importlib
import pickle
import sys
import types
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

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
