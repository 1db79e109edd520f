"""One open checkpoint, read from several threads at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from builders import V1Builder, table

from lstmstate.checkpoint import Checkpoint
from lstmstate.checkpoint.sstable import Table
from lstmstate.files.reader import ByteSource

THREADS, ROUNDS, VARIABLES = 8, 5, 24


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """Let Python switch threads as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("has_pread", [True, False])
@pytest.mark.usefixtures("eager_switches")
def test_threads_read_the_variables_of_one_v1_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_pread: bool
) -> None:
    if not has_pread:
        monkeypatch.delattr(os, "pread", raising=False)
        monkeypatch.delattr(os, "preadv", raising=False)
    builder = V1Builder()
    values = {f"v{number}": np.arange(300.0) + number for number in range(VARIABLES)}
    for name, value in values.items():
        builder.add(name, value)
    checkpoint = Checkpoint(builder.write(tmp_path / "model.ckpt"))

    def read(first: int) -> None:
        names = [f"v{(first + step) % VARIABLES}" for step in range(VARIABLES)]
        for name in names * ROUNDS:
            np.testing.assert_array_equal(checkpoint.variables[name].read(), values[name])

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(read, range(0, VARIABLES, VARIABLES // THREADS)))


def test_a_read_does_not_move_the_position_that_descriptors_share(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.lseek(descriptor, 7, os.SEEK_SET)
        with ByteSource(str(path), descriptor) as source:
            buffer = bytearray(5)
            source.read_into(memoryview(buffer), 40)
            assert source.read(20, 3, "some bytes") == bytes([20, 21, 22])
        assert bytes(buffer) == bytes(range(40, 45))
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 7
    finally:
        os.close(descriptor)


def test_a_value_is_found_although_another_thread_reads_another_block(tmp_path: Path) -> None:
    class Shared(Table):
        """A table whose last read block was always another, read by another thread."""

        @property
        def _kept(self) -> tuple[int, dict[bytes, bytes]]:  # type: ignore[override]
            return 99, {}

        @_kept.setter
        def _kept(self, value: tuple[int, dict[bytes, bytes]]) -> None:
            pass

    path = tmp_path / "table"
    path.write_bytes(table([(b"a", b"1"), (b"b", b"2")]))
    with ByteSource(str(path)) as source:
        assert Shared(source).get(b"b") == b"2"
